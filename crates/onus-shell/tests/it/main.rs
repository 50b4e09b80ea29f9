//! The integration tests of onus-shell: cases, the real `/bin/sh` as judge, hostile input, and corpora.

mod administrators;
mod cases;
mod corpora;
mod hostile;
mod judge;
