//! Tests of the journal through its public surface: what was written comes back, and whatever was
//! done to it in between is found.

mod damage;
mod writing;
