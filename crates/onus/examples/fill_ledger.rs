//! Fills the ledger of a gateway that does not run, for benches: many subjects, each with live grants.
//!
//! Usage: `fill_ledger DATA SUBJECTS GRANTS APPROVER`. Every subject is declared, every grant is requested and approved,
//! by the same control loop and rules as in the gateway, and signed with its key; only network and command line are left
//! out, and many commands go into one append. The subjects are workloads that the party of `alice` answers for. Each
//! asks for the role `reader` on `orders-db`, and the approver agrees. What an earlier call made stays. Deliberately not
//! part of the binary: nobody should find a way to make grants there.

use onus_core::command::Command;
use onus_core::estate::Subject;
use onus_core::event::Actor;
use onus_core::ids::{GrantId, RequestId, ResourceId, RoleId, SubjectId};
use onus_core::time::Millis;
use onus_core::view::{Scope, SubjectKind};
use onus_gateway::Control;
use onus_ledger::{SigningKey, VerifierKey};
use onus_store_sql::{DataLock, SqliteStore};
use std::error::Error;
use std::path::Path;

/// Commands in one append.
const BATCH: usize = 10_000;

fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [data, subjects, grants, approver] = words.as_slice() else {
        return Err("usage: fill_ledger DATA SUBJECTS GRANTS APPROVER".into());
    };
    let (data, subjects, grants) = (Path::new(data), subjects.parse::<usize>()?, grants.parse::<usize>()?);
    let approver = Actor::Subject(SubjectId::parse(approver)?);
    let _lock = DataLock::acquire(data)?;
    let store = SqliteStore::open_existing(data.join("onus.db"))?;
    let (control, thread) = Control::start(Box::new(store), key(data)?)?;
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;

    let names: Vec<SubjectId> =
        (0..subjects).map(|n| SubjectId::parse(&format!("filled-{n:06}"))).collect::<Result<_, _>>()?;
    let (estate, administrator, first) = {
        let state = control.shared().state();
        let mut estate = state.estate.clone();
        let like = SubjectId::parse("alice")?;
        let alice = estate.subjects.get(&like).ok_or("there is no subject `alice`")?;
        let owner = alice.party.clone().ok_or("the subject `alice` is no party")?;
        let workload = Subject { kind: SubjectKind::Workload, owner, party: None, administrator: false };
        let administrator = estate.subjects.iter().find(|(_, subject)| subject.administrator);
        let administrator = administrator.ok_or("there is no administrator")?.0.clone();
        estate.subjects.extend(names.iter().map(|name| (name.clone(), workload.clone())));
        // The ledger only grows, so these numbers were never given before.
        (estate, administrator, usize::try_from(state.as_of)?)
    };
    let apply = Command::ApplyEstate { wanted: Box::new(estate) };
    runtime.block_on(control.give(vec![apply], Actor::Subject(administrator)))?;

    let numbers: Vec<usize> = (first..first + grants).collect();
    for numbers in numbers.chunks(BATCH) {
        // One actor an order: so the requests go out together, and are answered as they come.
        let asked = numbers.iter().map(|&number| {
            let subject = &names[number % names.len().max(1)];
            Ok(control.give(vec![request(number)?], Actor::Subject(subject.clone())))
        });
        let asked = asked.collect::<Result<Vec<_>, Box<dyn Error>>>()?;
        runtime.block_on(async {
            // The control loop batches whatever is waiting, and all of it is waiting once each was polled.
            let mut asked: Vec<_> = asked.into_iter().map(Box::pin).collect();
            let mut failed = None;
            std::future::poll_fn(|cx| {
                asked.retain_mut(|order| match order.as_mut().poll(cx) {
                    std::task::Poll::Ready(Ok(_)) => false,
                    std::task::Poll::Ready(Err(error)) => {
                        failed = Some(error);
                        false
                    }
                    std::task::Poll::Pending => true,
                });
                if asked.is_empty() || failed.is_some() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
            })
            .await;
            failed.map_or(Ok(()), Err)
        })?;
        let approvals = numbers
            .iter()
            .map(|&number| {
                let grant = GrantId::parse(&format!("G-filled{number:06}"))?;
                Ok(Command::ApproveRequest { request: request_id(number)?, grant })
            })
            .collect::<Result<Vec<_>, Box<dyn Error>>>()?;
        runtime.block_on(control.give(approvals, approver.clone()))?;
    }
    let (entries, live) = {
        let state = control.shared().state();
        (state.as_of, state.grants.len())
    };
    control.stop();
    drop(control);
    thread.join().map_err(|_| "the control loop panicked")?;
    println!("{entries} entries, {live} live grants");
    Ok(())
}

fn request_id(number: usize) -> Result<RequestId, Box<dyn Error>> {
    Ok(RequestId::parse(&format!("R-filled{number:06}"))?)
}

fn request(number: usize) -> Result<Command, Box<dyn Error>> {
    Ok(Command::RequestAccess {
        id: request_id(number)?,
        resource: ResourceId::parse("orders-db")?,
        role: RoleId::parse("reader")?,
        purpose: format!("INC-{number}: fill the ledger for a bench"),
        scope: Scope::default(),
        lasts: Millis(8 * 3_600_000),
    })
}

fn key(data: &Path) -> Result<SigningKey, Box<dyn Error>> {
    let vkey = std::fs::read_to_string(data.join("keys/ledger.vkey"))?;
    let mut seed = [0; 32];
    hex::decode_to_slice(std::fs::read_to_string(data.join("keys/ledger.key"))?.trim(), &mut seed)?;
    let verifier = VerifierKey::parse(vkey.trim())?;
    Ok(SigningKey::from_seed(verifier.name().clone(), &seed))
}
