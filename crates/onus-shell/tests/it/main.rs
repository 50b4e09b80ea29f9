//! The integration tests of onus-shell: cases, the real `/bin/sh` as judge, hostile input, unseen words, and corpora.

mod administrators;
mod cases;
mod corpora;
mod hostile;
mod judge;
mod unseen;
