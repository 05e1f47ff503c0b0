//! Where a JSON value ends that is written over one or more lines, so that the next one may follow without a `---`.

/// The brackets of a document that begins with one.
#[derive(Default)]
pub(super) struct Brackets {
    /// `None` until something was read, and where it is no JSON.
    depth: Option<usize>,
    seen: bool,
    in_text: bool,
    escaped: bool,
}

impl Brackets {
    /// Whether a value was opened, and has ended.
    pub(super) fn are_closed(&self) -> bool {
        self.depth == Some(0) && !self.in_text
    }

    /// Reads on. What is no JSON, such as a comment behind a value, only keeps it from being seen to end.
    pub(super) fn add(&mut self, line: &[u8]) {
        if !self.seen {
            self.seen = true;
            if line.trim_ascii_start().first() == Some(&b'{') {
                self.depth = Some(0);
            }
        }
        let Some(mut depth) = self.depth else { return };
        for byte in line {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' if self.in_text => self.escaped = true,
                b'"' => self.in_text = !self.in_text,
                b'{' | b'[' if !self.in_text => depth = depth.saturating_add(1),
                b'}' | b']' if !self.in_text => depth = depth.saturating_sub(1),
                _ => {}
            }
        }
        self.depth = Some(depth);
    }
}
