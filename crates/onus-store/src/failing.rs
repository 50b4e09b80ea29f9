//! Any store, made to fail on purpose, in both ways that a step can fail.
//!
//! For tests and simulation. Makes no failure up by itself: everything is planned, so a run can
//! be repeated.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::fault::{AppendError, Part, StoreFault};
use crate::ledger::{Entry, LedgerStore, SignedCheckpoint};
use crate::vault::{Swap, VaultStore};

/// How a step fails. For the caller the two look the same; that is the point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// The step did not happen.
    NotPersisted,
    /// The step happened and its acknowledgement was lost. (A reading step just fails.)
    Unacknowledged,
}

/// A call on a store, as a thing that can be made to fail.
///
/// When adding a method to a port: one variant here, one arm in `part`, one line in [`Failing`],
/// and a place in the contract's list of steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// [`LedgerStore::append`]
    Append,
    /// [`LedgerStore::size`]
    Size,
    /// [`LedgerStore::read`]
    Read,
    /// [`LedgerStore::checkpoints`]
    Checkpoints,
    /// [`LedgerStore::put_checkpoint`]
    PutCheckpoint,
    /// [`LedgerStore::put_snapshot`]
    PutSnapshot,
    /// [`LedgerStore::latest_snapshot`]
    LatestSnapshot,
    /// [`LedgerStore::discard_snapshot`]
    DiscardSnapshot,
    /// [`LedgerStore::put_blob`]
    PutBlob,
    /// [`LedgerStore::blob`]
    Blob,
    /// [`VaultStore::put`]
    VaultPut,
    /// [`VaultStore::fetch`]
    VaultFetch,
    /// [`VaultStore::remove`]
    VaultRemove,
    /// [`VaultStore::names`]
    VaultNames,
    /// [`VaultStore::take`]
    VaultTake,
    /// [`VaultStore::compare_and_swap`]
    VaultCompareAndSwap,
}

impl Step {
    /// The fault that the step gives when it is made to fail.
    fn fault(self) -> StoreFault {
        use Step::*;
        let part = match self {
            Append | Size | Read => Part::Entries,
            Checkpoints | PutCheckpoint => Part::Checkpoints,
            PutSnapshot | LatestSnapshot | DiscardSnapshot => Part::Snapshots,
            PutBlob | Blob => Part::Blobs,
            VaultPut | VaultFetch | VaultRemove | VaultNames | VaultTake | VaultCompareAndSwap => Part::Vault,
        };
        let source = "failed on purpose".into();
        match self {
            Size | Read | Checkpoints | LatestSnapshot | Blob | VaultFetch | VaultNames => {
                StoreFault::Read { part, source }
            }
            _ => StoreFault::Write { part, source },
        }
    }
}

/// Which steps fail, and how. A clone is another handle on the same plan, so that a test can plan
/// on while the store is in use elsewhere.
#[derive(Debug, Clone, Default)]
pub struct FailPlan {
    planned: Arc<Mutex<Vec<Planned>>>,
}

#[derive(Debug)]
struct Planned {
    step: Step,
    failure: Failure,
    /// Calls of this step to let pass first.
    pass: usize,
    lasting: bool,
}

impl FailPlan {
    /// A plan under which nothing fails.
    pub fn new() -> Self {
        Self::default()
    }

    /// The next call of `step` fails, once; after those planned before.
    pub fn fail_next(&self, step: Step, failure: Failure) {
        self.fail_after(step, 0, failure);
    }

    /// The next `pass` calls of `step` go through and the one after them fails, once. Counts from
    /// where the failures planned before for this step end.
    pub fn fail_after(&self, step: Step, pass: usize, failure: Failure) {
        self.plan(step, pass, failure, false);
    }

    /// Every call of `step` fails, until [`heal`](Self::heal).
    pub fn fail_until_healed(&self, step: Step, failure: Failure) {
        self.plan(step, 0, failure, true);
    }

    /// Forgets all that was planned: nothing fails any more.
    pub fn heal(&self) {
        self.lock().clear();
    }

    /// How many planned failures have not happened yet; a lasting one counts until healed.
    pub fn pending(&self) -> usize {
        self.lock().len()
    }

    fn plan(&self, step: Step, pass: usize, failure: Failure, lasting: bool) {
        let planned = Planned { step, failure, pass, lasting };
        self.lock().push(planned);
    }

    /// How this call of `step` fails, if it does.
    fn due(&self, step: Step) -> Option<Failure> {
        let mut planned = self.lock();
        let at = planned.iter().position(|p| p.step == step)?;
        let first = &mut planned[at];
        if first.pass > 0 {
            first.pass -= 1;
            return None;
        }
        let failure = first.failure;
        if !first.lasting {
            planned.remove(at);
        }
        Some(failure)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Planned>> {
        self.planned.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run<T, E: From<StoreFault>>(&self, step: Step, call: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
        match self.due(step) {
            None => call(),
            Some(Failure::NotPersisted) => Err(step.fault().into()),
            Some(Failure::Unacknowledged) => {
                // What the store refuses by itself stays refused: there is nothing to lose the
                // acknowledgement of.
                call()?;
                Err(step.fault().into())
            }
        }
    }
}

/// A store whose steps fail as planned.
#[derive(Debug, Clone)]
pub struct Failing<S> {
    store: S,
    plan: FailPlan,
}

impl<S> Failing<S> {
    /// Wraps a store. Keep a clone of the plan to steer it.
    pub fn new(store: S, plan: FailPlan) -> Self {
        Self { store, plan }
    }
}

impl<S: LedgerStore> LedgerStore for Failing<S> {
    fn append(
        &mut self,
        expected: u64,
        entries: &[Entry],
        checkpoint: Option<&SignedCheckpoint>,
    ) -> Result<u64, AppendError> {
        let Self { store, plan } = self;
        plan.run(Step::Append, || store.append(expected, entries, checkpoint))
    }

    fn size(&self) -> Result<u64, StoreFault> {
        self.plan.run(Step::Size, || self.store.size())
    }

    fn read(&self, from: u64, max: usize) -> Result<Vec<Entry>, StoreFault> {
        self.plan.run(Step::Read, || self.store.read(from, max))
    }

    fn checkpoints(&self, from_size: u64) -> Result<Vec<SignedCheckpoint>, StoreFault> {
        let call = || self.store.checkpoints(from_size);
        self.plan.run(Step::Checkpoints, call)
    }

    fn put_checkpoint(&mut self, checkpoint: &SignedCheckpoint) -> Result<(), StoreFault> {
        let Self { store, plan } = self;
        plan.run(Step::PutCheckpoint, || store.put_checkpoint(checkpoint))
    }

    fn put_snapshot(&mut self, size: u64, bytes: &[u8]) -> Result<(), StoreFault> {
        let Self { store, plan } = self;
        plan.run(Step::PutSnapshot, || store.put_snapshot(size, bytes))
    }

    fn latest_snapshot(&self) -> Result<Option<(u64, Vec<u8>)>, StoreFault> {
        let call = || self.store.latest_snapshot();
        self.plan.run(Step::LatestSnapshot, call)
    }

    fn discard_snapshot(&mut self, size: u64) -> Result<bool, StoreFault> {
        let Self { store, plan } = self;
        plan.run(Step::DiscardSnapshot, || store.discard_snapshot(size))
    }

    fn put_blob(&mut self, digest: [u8; 32], bytes: &[u8]) -> Result<(), StoreFault> {
        let Self { store, plan } = self;
        plan.run(Step::PutBlob, || store.put_blob(digest, bytes))
    }

    fn blob(&self, digest: [u8; 32]) -> Result<Option<Vec<u8>>, StoreFault> {
        self.plan.run(Step::Blob, || self.store.blob(digest))
    }
}

impl<S: VaultStore> VaultStore for Failing<S> {
    fn put(&mut self, kind: &str, name: &str, value: &[u8]) -> Result<(), StoreFault> {
        let Self { store, plan } = self;
        plan.run(Step::VaultPut, || store.put(kind, name, value))
    }

    fn fetch(&self, kind: &str, name: &str) -> Result<Option<Vec<u8>>, StoreFault> {
        let call = || self.store.fetch(kind, name);
        self.plan.run(Step::VaultFetch, call)
    }

    fn remove(&mut self, kind: &str, name: &str) -> Result<bool, StoreFault> {
        let Self { store, plan } = self;
        plan.run(Step::VaultRemove, || store.remove(kind, name))
    }

    fn names(&self, kind: &str) -> Result<Vec<String>, StoreFault> {
        self.plan.run(Step::VaultNames, || self.store.names(kind))
    }

    fn take(&mut self, kind: &str, name: &str) -> Result<Option<Vec<u8>>, StoreFault> {
        let Self { store, plan } = self;
        plan.run(Step::VaultTake, || store.take(kind, name))
    }

    fn compare_and_swap(
        &mut self,
        kind: &str,
        name: &str,
        expected: Option<&[u8]>,
        new: &[u8],
    ) -> Result<Swap, StoreFault> {
        let Self { store, plan } = self;
        plan.run(Step::VaultCompareAndSwap, || store.compare_and_swap(kind, name, expected, new))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MemoryStore;

    #[test]
    fn failures_come_in_the_order_planned_and_only_where_planned() {
        let plan = FailPlan::new();
        let mut store = Failing::new(MemoryStore::new(), plan.clone());
        plan.fail_after(Step::VaultPut, 1, Failure::NotPersisted);
        plan.fail_next(Step::VaultPut, Failure::Unacknowledged);

        store.put("k", "passes", b"1").expect("let through");
        store.put("k", "lost", b"2").expect_err("planned");
        store.put("k", "kept", b"3").expect_err("planned");
        assert_eq!(plan.pending(), 0);
        store.put("k", "after", b"4").expect("nothing planned");
        let names = store.names("k").expect("nothing planned");
        assert_eq!(names, ["after", "kept", "passes"]);
    }

    #[test]
    fn a_lasting_failure_lasts_until_healed() {
        let plan = FailPlan::new();
        let store = Failing::new(MemoryStore::new(), plan.clone());
        plan.fail_until_healed(Step::Size, Failure::NotPersisted);
        for _ in 0..3 {
            let fault = store.size().expect_err("planned");
            assert!(matches!(fault, StoreFault::Read { .. }), "{fault:?}");
        }
        plan.heal();
        assert_eq!(store.size().expect("healed"), 0);
    }
}
