//! The text being edited and the cursor in it.
//!
//! The cursor always stands between whole characters with their combining marks. What may get in is decided by the
//! editor; how it looks is the layout's matter.

use unicode_width::UnicodeWidthChar as _;

/// The text and the cursor, a byte offset in it.
#[derive(Clone, Default)]
pub(super) struct Buffer {
    text: String,
    cursor: usize,
}

impl Buffer {
    /// A buffer with the cursor at the end.
    pub(super) fn new(text: String) -> Self {
        Self { cursor: text.len(), text }
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    pub(super) fn cursor(&self) -> usize {
        self.cursor
    }

    pub(super) fn before(&self) -> &str {
        &self.text[..self.cursor]
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.cursor == self.text.len()
    }

    /// Inserts before the cursor; false for a mark with nothing to combine with.
    pub(super) fn insert(&mut self, c: char) -> bool {
        if is_mark(c) && self.before().chars().next_back().is_none_or(|before| before == '\n') {
            return false;
        }
        self.text.insert(self.cursor, c);
        self.cursor += c.len_utf8();
        true
    }

    /// Moves to the nearest place at or before `offset` where a cursor can stand.
    pub(super) fn move_to(&mut self, offset: usize) {
        self.cursor = offset.min(self.text.len());
        while !self.text.is_char_boundary(self.cursor) || self.text[self.cursor..].chars().next().is_some_and(is_mark) {
            self.cursor -= 1;
        }
    }

    /// The place one character before `from`.
    fn place_before(&self, from: usize) -> usize {
        self.text[..from].char_indices().rev().find(|(_, c)| !is_mark(*c)).map_or(0, |(index, _)| index)
    }

    /// The place one character after `from`.
    fn place_after(&self, from: usize) -> usize {
        let mut rest = self.text[from..].char_indices().skip(1);
        rest.find(|(_, c)| !is_mark(*c)).map_or(self.text.len(), |(index, _)| from + index)
    }

    pub(super) fn left(&mut self) {
        self.cursor = self.place_before(self.cursor);
    }

    pub(super) fn right(&mut self) {
        self.cursor = self.place_after(self.cursor);
    }

    pub(super) fn home(&mut self) {
        self.cursor = 0;
    }

    pub(super) fn end(&mut self) {
        self.cursor = self.text.len();
    }

    /// The start of the word before the cursor; words are letters, digits and underscores.
    fn word_before(&self) -> usize {
        let before = self.before().trim_end_matches(|c| !is_word(c));
        before.trim_end_matches(is_word).len()
    }

    /// The end of the word after the cursor.
    fn word_after(&self) -> usize {
        let rest = self.text[self.cursor..].trim_start_matches(|c| !is_word(c)).trim_start_matches(is_word);
        self.text.len() - rest.len()
    }

    pub(super) fn word_left(&mut self) {
        self.move_to(self.word_before());
    }

    pub(super) fn word_right(&mut self) {
        self.cursor = self.word_after();
    }

    /// Deletes the character before the cursor; false when there is none.
    pub(super) fn backspace(&mut self) -> bool {
        !self.cut(self.place_before(self.cursor), self.cursor).is_empty()
    }

    /// Deletes the character under the cursor; false when there is none.
    pub(super) fn delete(&mut self) -> bool {
        !self.cut(self.cursor, self.place_after(self.cursor)).is_empty()
    }

    pub(super) fn cut_to_start(&mut self) -> String {
        self.cut(0, self.cursor)
    }

    pub(super) fn cut_to_end(&mut self) -> String {
        self.cut(self.cursor, self.text.len())
    }

    /// Cuts back to a blank, as ctrl-w does.
    pub(super) fn cut_blank_word(&mut self) -> String {
        let start = self.before().trim_end().trim_end_matches(|c: char| !c.is_whitespace()).len();
        self.cut(start, self.cursor)
    }

    pub(super) fn cut_word_before(&mut self) -> String {
        self.cut(self.word_before(), self.cursor)
    }

    pub(super) fn cut_word_after(&mut self) -> String {
        self.cut(self.cursor, self.word_after())
    }

    /// Takes out what is between two places; the cursor stands where it was.
    pub(super) fn cut(&mut self, start: usize, end: usize) -> String {
        self.cursor = start;
        self.text.drain(start..end).collect()
    }

    /// Swaps the characters around the cursor, at the end the last two; false when there aren't two.
    pub(super) fn transpose(&mut self) -> bool {
        let middle = if self.is_at_end() { self.place_before(self.cursor) } else { self.cursor };
        let (start, end) = (self.place_before(middle), self.place_after(middle));
        if start == middle || middle == end {
            return false;
        }
        let swapped = format!("{}{}", &self.text[middle..end], &self.text[start..middle]);
        self.text.replace_range(start..end, &swapped);
        self.cursor = end;
        true
    }
}

/// Whether `c` belongs to the character before it.
pub(super) fn is_mark(c: char) -> bool {
    c.width() == Some(0)
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_' || is_mark(c)
}
