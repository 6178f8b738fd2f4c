//! A task that panics takes its promises with it, and the runtime says nothing: within a run its
//! panic is a finding, told in one line, and not printed in between.

use std::cell::RefCell;
use std::panic;
use std::sync::Once;

thread_local! {
    /// What has panicked in the run of this thread, if there is one.
    static SEEN: RefCell<Option<Vec<String>>> = const { RefCell::new(None) };
}

/// A run, from its start; everything of it happens on one thread.
pub(crate) struct Watched(());

impl Watched {
    pub(crate) fn begin() -> Watched {
        static HOOK: Once = Once::new();
        HOOK.call_once(|| {
            let before = panic::take_hook();
            panic::set_hook(Box::new(move |info| {
                let text = info.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
                let is_seen = SEEN.try_with(|seen| {
                    let mut seen = seen.try_borrow_mut().ok()?;
                    seen.as_mut()?.push(text);
                    Some(())
                });
                if !matches!(is_seen, Ok(Some(()))) {
                    before(info);
                }
            }));
        });
        SEEN.set(Some(Vec::new()));
        Watched(())
    }

    /// What has panicked until now.
    pub(crate) fn finish(self) -> Vec<String> {
        SEEN.take().unwrap_or_default()
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        let seen = SEEN.take();
        // The panic of the run itself.
        seen.iter().flatten().for_each(|panic| eprintln!("{panic}"));
    }
}
