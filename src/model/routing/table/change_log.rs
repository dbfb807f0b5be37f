//! The listeners of each prefix, and the changes below it.
//!
//! A change is recorded once for each prefix above it that has a listener, and wakes the waiting
//! listeners that have the [`Interest`]. So the cost of a listener does not depend on listeners of other
//! prefixes. Prefixes without listeners cost nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::task::Waker;

use crate::Path;
use crate::census::census;
use crate::model::base::{DeferredWakes, WaitSlot, Wakers};
use crate::slab::{Key, Slab};

/// Which changes wake a listener. Each includes those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Interest {
    /// A path leads to another broadcast, or to none.
    Broadcasts,
    /// A broadcast has other routes.
    Routes,
    /// There is another handler for requests, or one less.
    Handlers,
}

#[derive(Debug, Default)]
pub(crate) struct ChangeLog {
    /// The prefixes and paths with listeners or watchers.
    prefixes: BTreeMap<Path, PrefixLog>,
    /// The wakers of waiting listeners, each once for all of its prefixes.
    listeners: Slab<Option<Waker>>,
    due: DeferredWakes,
}

#[derive(Debug, Default)]
struct PrefixLog {
    listeners: usize,
    /// The changes at or below it since its first listener came, by version of the last change.
    rows: BTreeMap<u64, Path>,
    /// Listeners that wait for a change.
    below: BTreeSet<(Interest, Key)>,
    /// Counts the handles that watch exactly this path.
    watchers: usize,
    /// The watchers that wait.
    at: Wakers,
}

impl ChangeLog {
    /// Adds a listener. [`ChangeLog::next`] finds changes below `prefixes` from now on.
    pub(crate) fn listen(&mut self, prefixes: &[Path]) -> Key {
        for prefix in prefixes {
            self.prefixes.entry(prefix.clone()).or_default().listeners += 1;
        }
        self.listeners.insert(None)
    }

    /// Removes a listener. Drop the returned waker after releasing the lock.
    pub(crate) fn leave(&mut self, prefixes: &[Path], listener: (Interest, Key)) -> Option<Waker> {
        for path in prefixes {
            let Some(prefix) = self.prefixes.get_mut(path) else { continue };
            prefix.below.remove(&listener);
            prefix.listeners -= 1;
            if prefix.listeners == 0 {
                prefix.rows = BTreeMap::new();
            }
            self.prune(path);
        }
        self.listeners.remove(listener.1).flatten()
    }

    /// Registers the waker of a listener. Drop the returned waker after releasing the lock.
    pub(crate) fn wait(
        &mut self,
        prefixes: &[Path],
        listener: (Interest, Key),
        waker: Waker,
    ) -> Option<Waker> {
        for path in prefixes {
            if let Some(prefix) = self.prefixes.get_mut(path) {
                prefix.below.insert(listener);
            }
        }
        self.listeners.get_mut(listener.1)?.replace(waker)
    }

    /// Watches exactly `path`, until [`ChangeLog::unwatch`].
    pub(crate) fn watch(&mut self, path: &Path) {
        self.prefixes.entry(path.clone()).or_default().watchers += 1;
    }

    pub(crate) fn unwatch(&mut self, path: &Path, slot: &mut WaitSlot) -> Option<Waker> {
        let prefix = self.prefixes.get_mut(path)?;
        let spare = prefix.at.free(slot);
        prefix.watchers -= 1;
        self.prune(path);
        spare
    }

    /// Registers the waker of a watcher of `path`.
    pub(crate) fn wait_at(
        &mut self,
        path: &Path,
        slot: &mut WaitSlot,
        waker: Waker,
    ) -> Option<Waker> {
        self.prefixes.get_mut(path)?.at.register(slot, waker)
    }

    /// `path` changed. Its record under version `from` moves to version `to`. Listeners and watchers
    /// with less than this interest are not woken.
    pub(crate) fn record(&mut self, path: &Path, from: u64, to: u64, interest: Interest) {
        if self.prefixes.is_empty() {
            return;
        }
        for above in path.covering() {
            let Some(prefix) = self.prefixes.get_mut(above) else { continue };
            if prefix.listeners > 0 {
                prefix.rows.remove(&from);
                prefix.rows.insert(to, path.clone());
                for (_, listener) in prefix.below.split_off(&(interest, (0, 0))) {
                    self.due.push(self.listeners.get_mut(listener).and_then(Option::take));
                }
            }
            if interest == Interest::Broadcasts && above.len() == path.as_str().len() {
                prefix.at.take(&mut self.due);
            }
        }
    }

    /// Removes the record of `path` under `version`, because no reader needs it.
    pub(crate) fn forget(&mut self, path: &Path, version: u64) {
        for above in path.covering() {
            if let Some(prefix) = self.prefixes.get_mut(above) {
                prefix.rows.remove(&version);
            }
        }
    }

    /// The first change after version `seen` below one of `prefixes`.
    pub(crate) fn next(&self, prefixes: &[Path], seen: u64) -> Option<(u64, &Path)> {
        let first = |path| {
            let (version, path) = self.prefixes.get(path)?.rows.range(seen + 1..).next()?;
            Some((*version, path))
        };
        prefixes.iter().filter_map(first).min()
    }

    /// Takes the wakers that the last changes concern.
    pub(crate) fn take_due(&mut self) -> DeferredWakes {
        std::mem::take(&mut self.due)
    }

    /// Wakes all waiters.
    pub(crate) fn wake_all(&mut self) {
        for prefix in self.prefixes.values_mut() {
            for (_, listener) in std::mem::take(&mut prefix.below) {
                self.due.push(self.listeners.get_mut(listener).and_then(Option::take));
            }
            prefix.at.take(&mut self.due);
        }
    }

    fn prune(&mut self, path: &Path) {
        if self.prefixes.get(path).is_some_and(|it| it.listeners == 0 && it.watchers == 0) {
            self.prefixes.remove(path);
        }
    }

    /// The number of prefixes, and of records in all.
    #[cfg(test)]
    pub(crate) fn sizes(&self) -> (usize, usize) {
        (self.prefixes.len(), self.prefixes.values().map(|prefix| prefix.rows.len()).sum())
    }
}

census! { each PrefixLog { counts: listeners, rows, below, watchers, at; } }

census! { ChangeLog { counts: listeners; within: prefixes; plain: due; } }
