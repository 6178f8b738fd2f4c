//! How the others take this member: whoever runs it is told, and only it can tell. A member that
//! is refused, was removed or is not taken in yet looks the same from its inside: nobody leads.
//!
//! What is so is noted when it shows; what has changed is said every [`NOTICE_MS`].

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use super::config::MEMBER_ID_MAX;
use super::handshake::{Refusal, Welcome, anew};
use crate::limits::NOTICE_MS;

/// What there is to say, by what it is about.
type Said = BTreeMap<About, String>;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum About {
    /// How this member stands to its cluster.
    Own,
    /// Another cluster, or this one with another folder, takes this member for its own.
    Claim,
    /// What another member says of this one.
    By(u64),
    /// What this one says of another.
    Of(u64),
}

#[derive(Debug)]
pub(crate) struct Notices {
    noted: Mutex<Said>,
    /// The last claim.
    claim: watch::Sender<Option<String>>,
}

impl Default for Notices {
    fn default() -> Notices {
        Notices { noted: Mutex::default(), claim: watch::Sender::new(None) }
    }
}

impl Notices {
    fn noted(&self) -> MutexGuard<'_, Said> {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, about: About, text: Option<String>) {
        match text {
            Some(text) => _ = self.noted().insert(about, text),
            None => _ = self.noted().remove(&about),
        }
    }

    /// Member `by` has let this one, `id`, in.
    pub(super) fn welcomed(&self, by: u64, id: u64, welcome: &Welcome) {
        let removed = || {
            format!(
                "member {by} says that member {id} was removed from the cluster: stop it, or {}",
                anew(id)
            )
        };
        self.note(About::By(by), welcome.is_removed.then(removed));
    }

    /// Member `by` has refused this one, `id`.
    pub(super) fn refused(&self, by: u64, id: u64, refusal: &Refusal) {
        let text = format!("member {by} refuses member {id}: {refusal}");
        self.note(About::By(by), Some(text));
    }

    /// Member `of` has come, and was refused or not.
    pub(super) fn judged(&self, of: u64, refusal: Option<&Refusal>) {
        // Whoever it says that it is: there are so many at most.
        if of > MEMBER_ID_MAX {
            return;
        }
        if refusal.is_none() {
            self.note(About::Claim, None);
        }
        let text = refusal.map(|refusal| format!("member {of} is refused: {refusal}"));
        self.note(About::Of(of), text);
    }

    /// Somebody takes this member, `id`, for another than it is.
    pub(super) fn claimed(&self, id: u64, text: &str) {
        let text = format!(
            "{text}. If it was emptied or replaced, it has forgotten what it had acknowledged: {}",
            anew(id)
        );
        self.claim.send_if_modified(|claim| {
            let first = claim.is_none();
            *claim = Some(text.clone());
            first
        });
        self.note(About::Claim, Some(text));
    }

    /// Waits until somebody has taken this member for another than it is; how that was.
    pub(super) async fn claim(&self) -> String {
        let mut claims = self.claim.subscribe();
        let claim = claims.wait_for(Option::is_some).await.ok().and_then(|claim| claim.clone());
        match claim {
            Some(claim) => claim,
            // The sender is here.
            None => std::future::pending().await,
        }
    }

    /// Says what has changed, now and then, until it is dropped; `own` is how this member stands
    /// to its cluster, if that is worth a word.
    pub(super) async fn tell(&self, own: impl Fn() -> Option<String>) {
        let mut said = Said::new();
        loop {
            tokio::time::sleep(Duration::from_millis(NOTICE_MS)).await;
            self.note(About::Own, own());
            let now = self.noted().clone();
            for (about, text) in changes(&said, &now) {
                match about {
                    About::Own | About::By(_) => tracing::warn!("{text}"),
                    About::Claim => tracing::error!("{text}"),
                    About::Of(_) => tracing::info!("{text}"),
                }
            }
            said = now;
        }
    }
}

/// What is so now and was not, or otherwise.
fn changes<'n>(said: &Said, now: &'n Said) -> Vec<(About, &'n str)> {
    let new = now.iter().filter(|(about, text)| said.get(about) != Some(text));
    new.map(|(about, text)| (*about, text.as_str())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(text: &str) -> Refusal {
        Refusal { text: text.to_owned(), is_lasting: true }
    }

    /// What would be said, as [`Notices::tell`] says it.
    fn say(notices: &Notices, said: &mut Said) -> Vec<String> {
        let now = notices.noted().clone();
        let texts = changes(said, &now).into_iter().map(|(_, text)| text.to_owned()).collect();
        *said = now;
        texts
    }

    #[test]
    fn a_refusal_is_said_once_for_as_long_as_it_is_the_same() {
        let (notices, mut said) = (Notices::default(), Said::new());
        for _ in 0..3 {
            notices.refused(1, 3, &refusal("another folder"));
        }
        let first = say(&notices, &mut said);
        assert_eq!(first.len(), 1, "{first:?}");
        assert_eq!(first[0], "member 1 refuses member 3: another folder");
        notices.refused(1, 3, &refusal("another folder"));
        assert_eq!(say(&notices, &mut said), [""; 0]);
        notices.refused(1, 3, &refusal("another cluster"));
        notices.refused(2, 3, &refusal("another folder"));
        assert_eq!(say(&notices, &mut said).len(), 2);
        // It is over, and comes back.
        notices.note(About::By(1), None);
        assert_eq!(say(&notices, &mut said), [""; 0]);
        notices.refused(1, 3, &refusal("another cluster"));
        assert_eq!(say(&notices, &mut said).len(), 1);
    }

    #[test]
    fn who_is_refused_under_any_number_it_makes_up_is_not_remembered() {
        let notices = Notices::default();
        notices.judged(MEMBER_ID_MAX + 1, Some(&refusal("no")));
        assert!(notices.noted().is_empty());
        notices.judged(MEMBER_ID_MAX, Some(&refusal("no")));
        assert_eq!(notices.noted().len(), 1);
    }

    #[test]
    fn a_member_that_was_removed_is_told_so_by_who_lets_it_in() {
        use super::super::types::FolderId;
        let (notices, mut said) = (Notices::default(), Said::new());
        let folder = FolderId([1; 16]);
        let welcome = Welcome { id: 1, cluster: None, folder, has_begun: true, is_removed: true };
        notices.welcomed(1, 3, &welcome);
        let texts = say(&notices, &mut said);
        assert!(texts[0].contains("member 3 was removed from the cluster"), "{texts:?}");
        notices.welcomed(1, 3, &Welcome { is_removed: false, ..welcome });
        assert!(notices.noted().is_empty());
    }
}
