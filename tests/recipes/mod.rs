//! The recipe suite: the same cases for every ground. Those in `faults` need a connection that
//! can break, and run on the two grounds that have one.

#[allow(missing_docs, reason = "the name of a case says what holds")]
pub mod cases;
#[allow(missing_docs, reason = "the name of a case says what holds")]
pub mod faults;
pub mod ground;
pub mod proxy;

/// Makes a test of every case on a ground.
#[macro_export]
macro_rules! on_ground {
    ($start:expr, $module:path: $($case:ident)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                use $module as cases;
                cases::$case(&$start.await).await;
            }
        )*
    };
}

/// Every case that stands on any ground.
#[macro_export]
macro_rules! all_cases {
    ($start:expr) => {
        $crate::on_ground! { $start, $crate::recipes::cases:
            holders_follow_each_other_with_growing_tokens
            a_held_lock_is_not_had_by_trying_or_in_time
            a_cancelled_acquire_leaves_no_contender
            two_guards_of_one_session_exclude_each_other
            a_guarded_transaction_is_done_only_while_the_lock_is_held
            a_dropped_guard_frees_the_lock
            a_closed_client_frees_its_locks_at_once
            ten_workers_never_overlap
            an_emptied_parent_does_no_harm
            leaders_follow_each_other_and_are_observed
            a_leadership_is_fenced_by_its_term
            a_configuration_is_followed_through_good_and_bad
            every_operation_answers_alike
            a_transaction_is_done_whole_or_not_at_all
            watches_tell_of_changes_and_are_removed_when_dropped
            a_namespace_is_all_that_its_client_sees
            acls_are_kept
        }
    };
}

/// Every case that needs a connection to break.
#[macro_export]
macro_rules! all_faults {
    ($start:expr) => {
        $crate::on_ground! { $start, $crate::recipes::faults:
            a_short_cut_loses_no_lock_and_no_session
            a_long_cut_loses_the_lock_before_another_has_it
            a_lost_reply_makes_no_second_contender
            a_release_while_cut_off_is_confirmed_when_the_connection_is_back
            a_guard_dropped_while_cut_off_is_released
            a_change_during_a_cut_is_told_after_it
            a_configuration_is_followed_over_cuts_kills_and_restarts
            a_killed_server_has_no_two_holders
            a_leader_that_is_cut_off_is_replaced
            workers_take_turns_through_cuts_and_a_restart
            a_pool_of_processes_replaces_its_killed_leader_in_time
        }
    };
}
