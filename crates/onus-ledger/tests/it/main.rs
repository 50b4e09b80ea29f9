//! Tests of the ledger through its public surface: vectors, corpora and properties.

mod corpora;
mod ledgers;
mod proofs;
mod vectors;
