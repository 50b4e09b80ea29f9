//! The store contract on SQLite, and SQLite against the in-memory store as its model.

mod contract;
mod model;
