//! Where text stands on a terminal of a given width.
//!
//! Rows are broken here and not left to the terminal, whose behaviour in the last column differs.

use unicode_width::UnicodeWidthChar as _;

/// Text cut into rows, and where its cursor is.
pub(super) struct Layout {
    pub(super) rows: Vec<String>,
    pub(super) cursor: (usize, usize),
}

/// Lays out `text`, which holds no control characters but newlines, with the cursor at byte `cursor`.
pub(super) fn lay_out(text: &str, cursor: usize, width: usize) -> Layout {
    let mut rows = vec![String::new()];
    let mut column = 0;
    let mut at = None;
    for (index, c) in text.char_indices() {
        let cells = c.width().unwrap_or(0);
        if c != '\n' && cells > 0 && column + cells > width {
            rows.push(String::new());
            column = 0;
        }
        if index == cursor {
            at = Some((rows.len() - 1, column.min(width - 1)));
        }
        if c == '\n' {
            rows.push(String::new());
            column = 0;
        } else {
            if let Some(row) = rows.last_mut() {
                row.push(c);
            }
            column += cells;
        }
    }
    // The cursor stands after the last character, which in a full row is the next one.
    if column >= width {
        rows.push(String::new());
        column = 0;
    }
    let end = (rows.len() - 1, column);
    Layout { rows, cursor: at.unwrap_or(end) }
}
