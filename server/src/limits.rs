//! Every bound of the server in one place, with its unit in the name. Those of [`Limits`] can be
//! set; the core's own are in [`synod_core::model::limits`].

use std::time::Duration;

use synod_core::engine::Bounds;
use synod_core::model::limits::{
    CHILDREN_PER_REPLY_MAX, DATA_BYTES_MAX, REQUEST_BYTES_MAX, WATCHES_PER_SESSION_MAX,
};

/// Connections in all.
pub const CONNECTIONS_MAX: usize = 65_536;

/// Connections of one address; loopback is exempt.
pub const CONNECTIONS_PER_ADDRESS_MAX: usize = 60;

/// Addresses without a connection whose pace is still remembered: more cannot have been done with in
/// the second that it takes to forget one.
pub const RESTING_ADDRESSES_MAX: usize = 65_536;

/// How long a client may take from its connection to its first whole frame, in milliseconds.
pub const HANDSHAKE_MS_MAX: u64 = 5_000;

/// How long a frame may stay half received, in milliseconds.
pub const HALF_FRAME_MS_MAX: u64 = 30_000;

/// How long a client may take for a [part](OUTPUT_PARTS) of the output that waits for it,
/// in milliseconds.
pub const WRITE_STALL_MS_MAX: u64 = 30_000;

/// In how many such parts a client must take what waits for it: it holds its room until it has
/// taken all.
pub const OUTPUT_PARTS: usize = 2;

/// How often the files of a port's certificate are looked at, in milliseconds.
pub const TLS_RELOAD_MS: u64 = 10_000;

/// Largest file of users, in bytes.
pub const SASL_USERS_BYTES_MAX: u64 = 1 << 20;

/// Output that TLS holds back for one connection while its client does not take it, in bytes; what
/// is beyond it counts among [`OUTPUT_BYTES_SOFT`].
pub const TLS_OUTPUT_BYTES_MAX: usize = 16 << 10;

/// Output waiting for a connection past which none of its requests is looked at, in bytes. One
/// reply may go beyond it.
pub const OUTPUT_BYTES_SOFT: usize = 1 << 20;

/// Events waiting for a connection past which it is closed, in bytes: unlike replies, they cannot
/// be held back. The session lives on.
pub const EVENT_BYTES_MAX: usize = 16 << 20;

/// Output waiting for all connections together past which no large reply is made and no further
/// event waits, in bytes.
pub const TOTAL_OUTPUT_BYTES_MAX: usize = 512 << 20;

/// Which part of that one connection may hold; one reply may be larger, while nothing else waits for
/// its connection.
pub const OUTPUT_PART_OF_CONNECTION: usize = 8;

/// Output of one connection that does not count among that, in bytes: there is always room for it,
/// and for a reply of as much behind it. Beyond it, none of its requests is looked at while there is
/// too much in all.
pub const OUTPUT_BYTES_COUNTED: usize = 16 << 10;

/// Largest first frame of a connection, in bytes.
pub const HANDSHAKE_BYTES_MAX: usize = 16 << 10;

/// Least frame of a request, in bytes: its xid and its operation.
pub const REQUEST_BYTES_MIN: usize = 8;

/// The least that an operator can bound requests to, in bytes: what leaves watches again, as clients
/// cut it into pieces, is to fit.
pub const REQUEST_BYTES_BOUND_MIN: usize = 256 << 10;

/// Room that is made for what is read at a time, in bytes.
pub const READ_BYTES: usize = 8 << 10;

/// Input past which a connection's requests are done before more is read, in bytes. (A single
/// frame may be larger.)
pub const INPUT_BYTES_SOFT: usize = 64 << 10;

/// Input of all connections together, beyond [`INPUT_BYTES_SOFT`] of each, past which no further
/// long frame is let in and nothing is decoded that would wait, in bytes.
pub const TOTAL_INPUT_BYTES_MAX: usize = 512 << 20;

/// How long a connection pauses before it looks again whether there is room for its frame, in
/// milliseconds.
pub const INPUT_PAUSE_MS: u64 = 100;

/// What a path of a decoded request takes beside its text and who points to it, in bytes.
pub const DECODED_PATH_BYTES: usize = 32;

/// Requests of one connection that are decoded at a time.
pub const BATCH_REQUESTS_MAX: usize = 256;

/// Requests a second of one address, past which reading from it pauses; 0 for no bound, and
/// loopback is exempt.
pub const REQUESTS_PER_SECOND_MAX: u32 = 0;

/// What the state may take in memory, in bytes, past which what would add to it is refused; 0 for
/// no bound. (`synod serve` knows better: it looks at what there is.)
pub const MEMORY_BYTES_MAX: u64 = 0;

/// Which part of that is kept for new sessions, so that clients can still come: beyond it they are
/// refused too.
pub const MEMORY_PART_FOR_SESSIONS: u64 = 8;

/// Requests of one connection that are read and not answered: past it, reading stops.
pub const OUTSTANDING_REQUESTS_MAX: usize = 1_024;

/// Bytes in memory of a connection's requests that wait for those before them to be answered, past
/// which reading stops too. (One may go beyond it. Writes count among [`UNAPPLIED_BYTES_MAX`].)
pub const OUTSTANDING_BYTES_SOFT: usize = 1 << 20;

/// Bytes of all writes that are on their way through the log, past which no more are taken in.
pub const UNAPPLIED_BYTES_MAX: usize = 64 << 20;

/// Which part of that one connection may have on its way: those of others are not to wait behind
/// all of it.
pub const UNAPPLIED_PART_OF_CONNECTION: usize = 16;

/// Entries that go through the log together, and that are applied before others get at the state
/// again.
pub const BATCH_ENTRIES_MAX: usize = 256;

/// How many entries apart the members' digests are compared.
pub const DIGEST_ENTRIES: u64 = 10_000;

/// Entries since the last snapshot after which another is made.
pub const SNAPSHOT_ENTRIES: u64 = 100_000;

/// Bytes of entries since the last snapshot after which another is made, however few they are.
pub const SNAPSHOT_LOG_BYTES: u64 = 1 << 30;

/// Entries that are kept though a snapshot holds them.
pub const LOG_ENTRIES_KEPT: u64 = 10_000;

/// Bytes that the log's segments may come to when a snapshot has been made: beyond it, entries that
/// the snapshot holds are not kept, however few they are.
pub const LOG_BYTES_KEPT: u64 = 1 << 30;

/// Entries of the log in one message between members.
pub const APPEND_ENTRIES_MAX: u64 = 1_024;

/// How often a leader is heard of, in milliseconds.
pub const HEARTBEAT_MS: u64 = 75;

/// The least time that is added to a leader's lease before a follower wants to lead, in
/// milliseconds.
pub const ELECTION_MS_MIN: u64 = 100;

/// The most, and a leader's lease.
pub const ELECTION_MS_MAX: u64 = 250;

/// How often a member tells the leader which sessions were heard of, in milliseconds, if nothing
/// is more urgent.
pub const TOUCH_MS: u64 = 250;

/// How often a leader that waits for its followers makes sure that they are there, in
/// milliseconds; and how long a member waits before it turns to the same leader again.
pub const LEASE_PROBE_MS: u64 = 100;

/// How often a leader that was just elected looks whether its followers have answered, in
/// milliseconds: everybody waits for that, and it takes a round trip.
pub const LEASE_CONFIRM_MS: u64 = 5;

/// How long a leader that its followers do not answer stays in office, in milliseconds. With that
/// it cuts the connections whose writes wait for them.
pub const QUORUM_MS_MAX: u64 = 1_000;

/// How long nobody leads before a member answers clients read-only that ask for it, in
/// milliseconds: as long as ZooKeeper waits, and several elections.
pub const READ_ONLY_AFTER_MS: u64 = 2_000;

/// How long the connection to a leader may take, in milliseconds.
pub const COURIER_CONNECT_MS_MAX: u64 = 1_000;

/// How long a courier and its leader go on without a word from the other, in milliseconds.
pub const COURIER_SILENCE_MS_MAX: u64 = 2_000;

/// Bytes of entries in one frame to the leader, and waiting to be sent there, past which no more
/// are added; and of those that go through the log together.
pub const COURIER_FRAME_BYTES_SOFT: usize = 256 << 10;

/// Batches of entries that were proposed and whose fate is not known, for each courier.
pub const COURIER_BATCHES_MAX: usize = 256;

/// So many of a leader's own batches whose fate is not known that the next one waits until it is full.
pub const COURIER_BATCHES_ENOUGH: usize = 2;

/// So many entries of a leader's own whose fate is not known that the next batch waits until it is full:
/// what each batch costs is then more than what the disk would wait for.
pub const COURIER_ENTRIES_ENOUGH: usize = 16;

/// Questions to the leader that are not answered, for each courier.
pub const COURIER_QUESTIONS_MAX: usize = 64;

/// How long a leader that stops waits for another to lead, in milliseconds.
pub const LEADER_TRANSFER_MS_MAX: u64 = 1_000;

/// Digests that a member remembers to compare them.
pub const DIGESTS_MAX: usize = 64;

/// How long one connection's requests may keep the others from the state, in microseconds; the
/// request at which it ends is done.
pub const BATCH_MICROS_MAX: u64 = 2_000;

/// How long a connection that ends may go without taking any of its last replies, in milliseconds.
pub const LINGER_MS_MAX: u64 = 1_000;

/// How long it may take for all of them, in milliseconds.
pub const DRAIN_MS_MAX: u64 = 30_000;

/// The same when the server stops, in milliseconds.
pub const STOP_LINGER_MS_MAX: u64 = 100;

/// Identities that one connection can prove, its address among them.
pub const IDENTITIES_MAX: usize = 64;

/// Bytes of all of them together: they go through the log with each write of the connection.
pub const IDENTITY_BYTES_MAX: usize = 16 << 10;

/// Sessions that are expired before others get at the state again.
pub const EXPIRY_BATCH_MAX: usize = 64;

/// How late the look for dead sessions is when that is worth a word, in milliseconds.
pub const LATE_LOOK_MS: u64 = 1_000;

/// How long accepting pauses when the operating system has no more to give (file descriptors,
/// memory), in milliseconds.
pub const ACCEPT_PAUSE_MS: u64 = 50;

/// How long a server that stops waits for its connections to end, in milliseconds.
pub const STOP_MS_MAX: u64 = 3_000;

/// How long a member that starts waits for a data folder that is in use, in milliseconds.
pub const FOLDER_WAIT_MS_MAX: u64 = 1_000;

/// How often it looks, in milliseconds.
pub const FOLDER_LOOK_MS: u64 = 20;

/// Size of a segment of the log, in bytes. One record larger than that gets a segment of its size.
pub const LOG_SEGMENT_BYTES: u64 = 64 << 20;

/// Largest segment of the log, in bytes: every place in it has 32 bits.
pub const LOG_SEGMENT_BYTES_MAX: u64 = 1 << 30;

/// Largest payload of a record of the log, in bytes.
pub const LOG_PAYLOAD_BYTES_MAX: usize = (16 << 20) - 1;

/// Largest vote that the log keeps, in bytes.
pub const LOG_VOTE_BYTES_MAX: usize = 256;

/// Entries that wait for their fdatasync, in bytes: past it, appending waits.
pub const LOG_QUEUE_BYTES_MAX: usize = 64 << 20;

/// What the log writes before it calls fdatasync, in bytes. One record may go beyond it.
pub const LOG_BATCH_BYTES_MAX: usize = 8 << 20;

/// Recent entries that the log keeps in memory, in bytes. Those that are not on disk yet are kept
/// whatever they come to; see [`LOG_QUEUE_BYTES_MAX`].
pub const LOG_CACHE_BYTES_MAX: usize = 4 << 20;

/// Segments that hold nothing needed any more and are kept to be written again.
pub const LOG_SPARE_SEGMENTS_MAX: usize = 2;

/// How much of a segment one place of the log's index stands for, in bytes: what is read at most
/// to find one small entry.
pub const LOG_RUN_BYTES: u32 = 32 << 10;

/// Reads of the log that wait for the disk; the next one waits for one of them.
pub const LOG_READS_MAX: usize = 64;

/// Entries that are read from the log at a time, in bytes. One entry may go beyond it.
pub const LOG_READ_BYTES_MAX: usize = 1 << 20;

/// Snapshots that are kept.
pub const SNAPSHOTS_KEPT: usize = 2;

/// Largest chunk of a snapshot, in bytes.
pub const SNAPSHOT_CHUNK_BYTES_MAX: usize = 3 << 20;

/// Largest meta of a snapshot, in bytes: it holds who the members are.
pub const SNAPSHOT_META_BYTES_MAX: usize = 1 << 20;

/// Chunks of a snapshot that are read before they are asked for, or have come and wait for the
/// disk.
pub const SNAPSHOT_CHUNKS_AHEAD: usize = 2;

/// Largest frame between members, in bytes: [`APPEND_BYTES_SOFT`] and one entry, or a chunk of a
/// snapshot.
pub const PEER_FRAME_BYTES_MAX: usize = 4 << 20;

/// Largest handshake between members, in bytes, either way.
pub const PEER_HANDSHAKE_BYTES_MAX: usize = 1 << 10;

/// How long a connection between members may take to say what it is for, in milliseconds. (Who
/// connects is bounded by the request that it connects for.)
pub const PEER_HANDSHAKE_MS_MAX: u64 = 5_000;

/// How long a member may take to say which data folder it has, in milliseconds, before it is
/// founded with or added.
pub const MEET_MS_MAX: u64 = 2_000;

/// How long those that found a cluster together pause before they look for each other again, in
/// milliseconds.
pub const FOUNDING_PAUSE_MS: u64 = 200;

/// How many of the longest election timeouts a member listens, before it founds a cluster alone,
/// whether others know it: each that misses it has called by then.
pub const FOUNDING_QUIET_ELECTIONS: u32 = 4;

/// Sessions, ephemeral znodes or watches that a four-letter word lists; it says nothing of the rest.
pub const WORD_ENTRIES_MAX: usize = 100_000;

/// How often a log line of one kind that others can cause is written, in milliseconds.
pub const SELDOM_MS: u64 = 1_000;

/// What a log line says of a text that others chose, in bytes.
pub const LINE_TEXT_BYTES_MAX: usize = 300;

/// How often a member says what has changed in how the others take it, in milliseconds.
pub const NOTICE_MS: u64 = 2_000;

/// Connections from other members, administration among them.
pub const PEER_CONNECTIONS_MAX: usize = 1_024;

/// Those of one address that have not said yet who they are.
pub const PEER_HANDSHAKES_PER_ADDRESS_MAX: usize = 64;

/// How long a connection from another member may say nothing before it is closed, in
/// milliseconds: the other side may have lost its power, which nobody tells.
pub const PEER_IDLE_MS_MAX: u64 = 600_000;

/// How long a member pauses between attempts to reach another, in milliseconds.
pub const PEER_PAUSE_MS: u64 = 50;

/// The least time that a connection to another member may take to be made, in milliseconds.
pub const PEER_CONNECT_MS_MIN: u64 = 100;

/// How long a connection to another member is kept although nothing is answered on it, in
/// milliseconds. Beyond it the next request makes another: what was sent into a partition comes
/// out long after it has healed.
pub const PEER_SILENCE_MS_MAX: u64 = 1_000;

/// Requests to append on their way to one member.
pub const APPENDS_IN_FLIGHT_MAX: usize = 64;

/// The same in bytes, past which no further request is encoded. (One may be larger.)
pub const APPEND_BYTES_IN_FLIGHT_SOFT: usize = 8 << 20;

/// Entries of a frame past which the next entry goes into another frame, in bytes.
pub const APPEND_BYTES_SOFT: usize = 1 << 20;

/// Output waiting for another member past which no further request is encoded, in bytes.
pub const PEER_OUTPUT_BYTES_SOFT: usize = 1 << 20;

/// Room that is made for the input of a connection between members at a time, in bytes. Entries
/// share it, and it stays as long as one of them.
pub const PEER_READ_BYTES: usize = 64 << 10;

/// Room for input below which more is made, in bytes.
pub const PEER_READ_BYTES_MIN: usize = 4 << 10;

/// Bytes of a snapshot on their way that the other member has not taken yet.
pub const SNAPSHOT_WINDOW_BYTES: usize = 4 << 20;

/// How long a snapshot that is being received may stand still before it is given up, in
/// milliseconds.
pub const SNAPSHOT_STALL_MS_MAX: u64 = 30_000;

/// How long a change of the members may take to be replicated, in milliseconds. Beyond it, it may
/// still come about.
pub const MEMBERS_CHANGE_MS_MAX: u64 = 30_000;

/// How often the progress of a member that catches up is told, in milliseconds.
pub const CATCH_UP_REPORT_MS: u64 = 200;

/// How long a member that catches up may stand still before waiting for it ends, in milliseconds.
pub const CATCH_UP_STALL_MS_MAX: u64 = 60_000;

/// Entries that a member may be behind the leader to count as caught up.
pub const CAUGHT_UP_ENTRIES_MAX: u64 = 1_000;

/// How long the member that leadership is handed to may take, in milliseconds.
pub const TRANSFER_MS_MAX: u64 = 10_000;

/// Members of a cluster, voters and learners.
pub const MEMBERS_MAX: usize = 64;

/// Longest list of members in a client's reconfiguration, in bytes.
pub const RECONFIG_BYTES_MAX: usize = 64 << 10;

/// Reconfigurations that clients of one member may ask for before the first is through; beyond it they
/// are refused.
pub const RECONFIGS_MAX: usize = 4;

/// Longest `host:port`, in bytes.
pub const ADDRESS_BYTES_MAX: usize = 512;

/// How often administration is sent on from member to member in search of the leader.
pub const ADMIN_HOPS_MAX: usize = 8;

/// How long administration pauses before it looks for a leader again, in milliseconds.
pub const ADMIN_PAUSE_MS: u64 = 200;

/// Highest index of a log entry that another member, or a file of the log, is believed.
pub const LOG_INDEX_MAX: u64 = 1 << 62;

// One batch more than the soft bound fits into a frame, with room for what stands around it. Of a
// request the log has its texts, which may be twice as long as they came, and who has sent it.
const _: () = assert!(
    APPEND_BYTES_SOFT + COURIER_FRAME_BYTES_SOFT + 2 * REQUEST_BYTES_MAX + IDENTITY_BYTES_MAX
        < PEER_FRAME_BYTES_MAX - (64 << 10)
);
// Of one piece with what a znode has, and what is before it.
const _: () = assert!(
    (1 << 20)
        + DATA_BYTES_MAX
        + synod_core::model::limits::PATH_BYTES_MAX
        + 2 * synod_core::model::limits::ACL_BYTES_MAX
        < SNAPSHOT_CHUNK_BYTES_MAX
);
const _: () = assert!(SNAPSHOT_CHUNK_BYTES_MAX < PEER_FRAME_BYTES_MAX);

/// The bounds of a server that can be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Largest frame of a request, in bytes; at most, and by default, [`REQUEST_BYTES_MAX`].
    pub request_bytes_max: usize,
    /// Largest data of a znode that is taken in, in bytes; at most, and by default,
    /// [`DATA_BYTES_MAX`].
    pub data_bytes_max: usize,
    /// See [`CONNECTIONS_MAX`].
    pub connections_max: usize,
    /// See [`CONNECTIONS_PER_ADDRESS_MAX`]; 0 for no bound.
    pub connections_per_address_max: usize,
    /// See [`REQUESTS_PER_SECOND_MAX`].
    pub requests_per_second_max: u32,
    /// Whether loopback counts as an address like others.
    pub loopback_is_bounded: bool,
    /// See [`OUTSTANDING_REQUESTS_MAX`].
    pub outstanding_requests_max: usize,
    /// See [`WATCHES_PER_SESSION_MAX`].
    pub watches_per_session_max: usize,
    /// See [`CHILDREN_PER_REPLY_MAX`].
    pub children_per_reply_max: usize,
    /// See [`MEMORY_BYTES_MAX`].
    pub memory_bytes_max: u64,
    /// See [`HANDSHAKE_MS_MAX`].
    pub handshake: Duration,
    /// See [`HALF_FRAME_MS_MAX`].
    pub half_frame: Duration,
    /// See [`WRITE_STALL_MS_MAX`].
    pub write_stall: Duration,
    /// See [`OUTPUT_BYTES_SOFT`].
    pub output_bytes_soft: usize,
    /// See [`TOTAL_OUTPUT_BYTES_MAX`].
    pub total_output_bytes_max: usize,
    /// See [`TOTAL_INPUT_BYTES_MAX`]; at least [`REQUEST_BYTES_MAX`].
    pub total_input_bytes_max: usize,
    /// See [`EVENT_BYTES_MAX`].
    pub event_bytes_max: usize,
    /// See [`COURIER_FRAME_BYTES_SOFT`].
    pub courier_frame_bytes_soft: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            request_bytes_max: REQUEST_BYTES_MAX,
            data_bytes_max: DATA_BYTES_MAX,
            connections_max: CONNECTIONS_MAX,
            connections_per_address_max: CONNECTIONS_PER_ADDRESS_MAX,
            requests_per_second_max: REQUESTS_PER_SECOND_MAX,
            loopback_is_bounded: false,
            outstanding_requests_max: OUTSTANDING_REQUESTS_MAX,
            watches_per_session_max: WATCHES_PER_SESSION_MAX,
            children_per_reply_max: CHILDREN_PER_REPLY_MAX,
            memory_bytes_max: MEMORY_BYTES_MAX,
            handshake: Duration::from_millis(HANDSHAKE_MS_MAX),
            half_frame: Duration::from_millis(HALF_FRAME_MS_MAX),
            write_stall: Duration::from_millis(WRITE_STALL_MS_MAX),
            output_bytes_soft: OUTPUT_BYTES_SOFT,
            total_output_bytes_max: TOTAL_OUTPUT_BYTES_MAX,
            total_input_bytes_max: TOTAL_INPUT_BYTES_MAX,
            event_bytes_max: EVENT_BYTES_MAX,
            courier_frame_bytes_soft: COURIER_FRAME_BYTES_SOFT,
        }
    }
}

impl Limits {
    /// # Errors
    /// The rule that does not hold.
    pub(crate) fn validate(&self) -> Result<(), &'static str> {
        if !(REQUEST_BYTES_BOUND_MIN..=REQUEST_BYTES_MAX).contains(&self.request_bytes_max) {
            Err("a request has at most 1114111 bytes, and may be bounded to no less than 262144")
        } else if self.data_bytes_max > DATA_BYTES_MAX {
            Err("a znode's data has at most 1048575 bytes")
        } else if self.outstanding_requests_max == 0 {
            Err("at least 1 request may be outstanding")
        } else if self.output_bytes_soft == 0 {
            Err("at least 1 byte of output may wait")
        } else if self.total_input_bytes_max < REQUEST_BYTES_MAX {
            Err("there is room for at least 1 request, of 1114111 bytes")
        } else if self.handshake.is_zero() {
            Err("a handshake may take some time")
        } else if self.connections_max == 0 {
            Err("there may be at least 1 of the connections")
        } else {
            Ok(())
        }
    }

    /// Those that the state machine keeps.
    pub(crate) fn bounds(&self) -> Bounds {
        Bounds {
            watches_per_session: self.watches_per_session_max,
            children_per_reply: self.children_per_reply_max,
        }
    }
}
