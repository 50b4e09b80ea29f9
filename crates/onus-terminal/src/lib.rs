//! Terminals without I/O: a line editor, recordings and their formats, what was echoed.
//!
//! Everything here is a function of the bytes handed in: no socket, file, clock or real terminal. [`asciicast`] and
//! [`player`] turn a recording into files and back into a screen; [`echo`] decides which typed input may be kept;
//! [`text`] makes output searchable; [`editor`] is the line a person types in the governed shell. It knows nothing of
//! sessions, policy or journals, and it is no terminal emulator: nothing here keeps a screen.

pub mod asciicast;
pub mod echo;
pub mod editor;
mod escape;
pub mod harmless;
pub mod keys;
pub mod player;
pub mod text;
pub mod utf8;
pub mod visible;

pub use asciicast::{Event, EventKind, Header, Recording};
pub use echo::{EchoTracker, Typed};
pub use editor::{Edit, Editor};
pub use player::Player;
pub use text::PlainText;
pub use utf8::Utf8Decoder;
pub use visible::visible;
