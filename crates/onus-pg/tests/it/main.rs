//! The integration tests of onus-pg: the classifier against corpora, the real parser and arbitrary input.

mod classify;
