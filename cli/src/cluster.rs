//! `synod cluster`.

use std::fmt::Display;

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use synod_server::admin::{Admin, AdminError, MemberStatus, Progress, Status};

use crate::client::{Failure, Options, say};
use crate::exit::Exit;

/// The arguments of `synod cluster`.
#[derive(Args)]
pub(crate) struct Cluster {
    /// Where some of the members reach each other, as `HOST:PORT[,HOST:PORT…]`.
    #[arg(long, global = true, value_name = "P", default_value = "127.0.0.1:2888")]
    peer: String,

    #[cfg(feature = "tls")]
    #[command(flatten)]
    tls: Tls,

    #[command(subcommand)]
    order: Order,
}

/// All three, where the members prove themselves by certificates.
#[cfg(feature = "tls")]
#[derive(Args)]
struct Tls {
    /// The authority of the members' certificates, a PEM file.
    #[arg(long, global = true, value_name = "FILE")]
    peer_tls_ca: Option<std::path::PathBuf>,

    /// The certificate to show them, a PEM file.
    #[arg(long, global = true, value_name = "FILE")]
    peer_tls_cert: Option<std::path::PathBuf>,

    /// Its private key, a PEM file.
    #[arg(long, global = true, value_name = "FILE")]
    peer_tls_key: Option<std::path::PathBuf>,
}

#[derive(Subcommand)]
enum Order {
    /// Print who the members are, who leads, and how far everybody is.
    Status,
    /// Add a member that replicates and does not vote, and wait until it has caught up.
    Add {
        /// Its number, where the others reach it, and where clients do.
        #[arg(value_name = "ID=PEER[,CLIENT]", value_parser = parse_joiner)]
        member: Joiner,
    },
    /// Give a member that has caught up a vote.
    Promote {
        /// Its number.
        id: u64,
    },
    /// Take a member out.
    Remove {
        /// Its number.
        id: u64,
    },
    /// Hand the leadership to a member that votes.
    Transfer {
        /// Its number.
        id: u64,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Joiner {
    id: u64,
    peer: String,
    client: String,
}

fn parse_joiner(text: &str) -> Result<Joiner, String> {
    let rule = "a member is ID=PEER[,CLIENT], both HOST:PORT";
    let (id, addresses) = text.split_once('=').ok_or(rule)?;
    let id = id.parse().map_err(|_| format!("{id:?} is no number: {rule}"))?;
    let (peer, client) = addresses.split_once(',').unwrap_or((addresses, ""));
    Ok(Joiner { id, peer: peer.to_owned(), client: client.to_owned() })
}

impl Cluster {
    /// Gives the order, and waits for what comes of it.
    pub(crate) async fn run(self, options: Options) -> Exit {
        let outcome = tokio::select! {
            biased;
            outcome = self.perform(&options) => outcome,
            _ = tokio::signal::ctrl_c() => Err(Failure::Interrupted),
        };
        options.report(outcome)
    }

    fn admin(&self, options: &Options) -> Result<Admin, AdminError> {
        let admin = Admin::new(&self.peer)?.timeout(options.connect_timeout());
        #[cfg(feature = "tls")]
        if let Some(net) = self.tls.net()? {
            return Ok(admin.net(net));
        }
        Ok(admin)
    }

    async fn perform(self, options: &Options) -> Result<(), Failure> {
        let mut admin = self.admin(options)?;
        let json = options.json();
        match self.order {
            Order::Status => {
                let status = admin.status().await?;
                say(json, &status_json(&status), &status_text(&status))
            }
            Order::Add { member: Joiner { id, peer, client } } => {
                let mut told = Ok(());
                let tell = |progress: Progress| {
                    if told.is_ok() {
                        told = say(json, &progress_json(id, &progress), &progress_text(&progress));
                    }
                };
                admin.add(id, &peer, &client, tell).await?;
                told?;
                let value = json!({ "id": id, "added": true });
                say(json, &value, &format!("member {id} is a learner and has caught up"))
            }
            Order::Promote { id } => {
                admin.promote(id).await?;
                let value = json!({ "id": id, "voter": true });
                say(json, &value, &format!("member {id} is a voter"))
            }
            Order::Remove { id } => {
                admin.remove(id).await?;
                let value = json!({ "id": id, "removed": true });
                say(json, &value, &format!("member {id} is removed"))
            }
            Order::Transfer { id } => {
                admin.transfer(id).await?;
                say(json, &json!({ "id": id, "leader": true }), &format!("member {id} leads"))
            }
        }
    }
}

#[cfg(feature = "tls")]
impl Tls {
    fn net(&self) -> Result<Option<std::sync::Arc<dyn synod_server::net::Net>>, AdminError> {
        use std::sync::Arc;
        use synod_server::net::Tcp;
        use synod_server::tls::{self, TlsFiles};

        let files = match (&self.peer_tls_ca, &self.peer_tls_cert, &self.peer_tls_key) {
            (None, None, None) => return Ok(None),
            (Some(ca), Some(certificate), Some(key)) => {
                TlsFiles { ca: ca.clone(), certificate: certificate.clone(), key: key.clone() }
            }
            _ => {
                let text = "--peer-tls-ca, --peer-tls-cert and --peer-tls-key go together";
                return Err(AdminError::Invalid(text.to_owned()));
            }
        };
        match tls::Tls::over(Arc::new(Tcp), &files) {
            Ok(net) => Ok(Some(Arc::new(net))),
            Err(error) => Err(AdminError::Invalid(error.to_string())),
        }
    }
}

fn progress_json(id: u64, progress: &Progress) -> Value {
    json!({ "id": id, "matched": progress.matched, "last": progress.last })
}

fn progress_text(progress: &Progress) -> String {
    let Progress { matched, last } = progress;
    match matched {
        Some(matched) => format!("it has entry {matched} of {last}"),
        None => format!("it has none of the entries up to {last} yet"),
    }
}

fn member_json(member: &MemberStatus) -> Value {
    json!({
        "id": member.id,
        "voter": member.voter,
        "peer": member.peer,
        "client": member.client,
        "lag": member.lag,
        "heard_ms": member.heard_ms,
    })
}

fn status_json(status: &Status) -> Value {
    json!({
        "id": status.id,
        "cluster": status.cluster,
        "role": status.role.to_string(),
        "leader": status.leader,
        "term": status.term,
        "changing": status.changing,
        "last_log": status.last_log,
        "committed": status.committed,
        "applied": status.applied,
        "snapshot": status.snapshot,
        "purged": status.purged,
        "zxid": status.zxid.map(|zxid| format!("{zxid:#x}")),
        "digest": status.digest.map(|digest| format!("{digest:#018x}")),
        "members": status.members.iter().map(member_json).collect::<Vec<_>>(),
    })
}

fn or_dash(value: Option<impl Display>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

/// What the member that was asked says of itself, a field a line, and a table of the members.
fn status_text(status: &Status) -> String {
    let mut lines = vec![
        format!("cluster {}", or_dash(status.cluster.as_ref())),
        format!("member {} ({}), term {}", status.id, status.role, status.term),
        match status.leader {
            Some(leader) => format!("leader {leader}"),
            None => "no leader".to_owned(),
        },
        format!(
            "log: last {}, committed {}, applied {}, snapshot {}, purged {}",
            or_dash(status.last_log),
            or_dash(status.committed),
            or_dash(status.applied),
            or_dash(status.snapshot),
            or_dash(status.purged),
        ),
    ];
    if let Some(zxid) = status.zxid {
        let digest = status.digest.map(|digest| format!("{digest:#018x}"));
        lines.push(format!("state: zxid {zxid:#x}, digest {}", or_dash(digest)));
    }
    if status.changing {
        lines.push("the voters are being changed".to_owned());
    }
    let head = ["ID", "", "PEER", "CLIENT", "BEHIND", "HEARD MS AGO"].map(str::to_owned);
    let row = |member: &MemberStatus| {
        let role = match (status.leader == Some(member.id), member.voter) {
            (true, _) => "leader",
            (false, true) => "voter",
            (false, false) => "learner",
        };
        let client = Some(&member.client).filter(|client| !client.is_empty());
        [
            member.id.to_string(),
            role.to_owned(),
            member.peer.clone(),
            or_dash(client),
            or_dash(member.lag),
            or_dash(member.heard_ms),
        ]
    };
    lines.extend(table(std::iter::once(head).chain(status.members.iter().map(row)).collect()));
    lines.join("\n")
}

/// Columns as wide as what stands in them.
fn table<const COLUMNS: usize>(rows: Vec<[String; COLUMNS]>) -> Vec<String> {
    let mut widths = [0; COLUMNS];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let line = |row: &[String; COLUMNS]| {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_joiner_is_a_number_and_one_or_two_addresses() {
        let joiner = |client: &str| Joiner { id: 4, peer: "a:1".into(), client: client.into() };
        assert_eq!(parse_joiner("4=a:1"), Ok(joiner("")));
        assert_eq!(parse_joiner("4=a:1,b:2"), Ok(joiner("b:2")));
        for wrong in ["4", "a:1", "x=a:1", "-1=a:1"] {
            let text = parse_joiner(wrong).expect_err("refused");
            assert!(text.contains("ID=PEER[,CLIENT]"), "{text}");
        }
    }

    #[test]
    fn a_table_has_columns_as_wide_as_what_stands_in_them() {
        let rows = vec![["ID", "PEER", "X"], ["10", "a:1", ""], ["2", "längst:1", "-"]];
        let rows = rows.into_iter().map(|row| row.map(str::to_owned)).collect();
        assert_eq!(table(rows), ["ID  PEER      X", "10  a:1", "2   längst:1  -"]);
    }
}
