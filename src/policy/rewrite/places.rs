//! Places of the text that the engine reads, in that of the author.

use std::collections::{BTreeMap, BTreeSet};

/// Lines of the author, by line of the engine; the same where nothing is told of one.
#[derive(Clone, Debug, Default)]
pub(in crate::policy) struct Lines(BTreeMap<u32, BTreeSet<u32>>);

impl Lines {
    pub(in crate::policy) fn of(&self, engine: u32) -> BTreeSet<u32> {
        self.0.get(&engine).cloned().unwrap_or_else(|| BTreeSet::from([engine]))
    }
}

/// Where the lines of a text end.
struct Ends(Vec<usize>);

impl Ends {
    fn of(text: &str) -> Self {
        Self(text.match_indices('\n').map(|(at, _)| at).collect())
    }

    fn line_at(&self, offset: usize) -> u32 {
        let before = self.0.partition_point(|end| *end < offset);
        u32::try_from(before).unwrap_or(u32::MAX).saturating_add(1)
    }
}

/// Columns as the engine counts them: bytes, and four for a tab.
fn width(c: char) -> usize {
    if c == '\t' { 4 } else { c.len_utf8() }
}

#[derive(Clone, Debug, Default)]
pub(in crate::policy) struct Places {
    /// Where a piece starts in the one text and the other, and whether it was copied.
    pieces: Vec<(usize, usize, bool)>,
    author: String,
    engine: String,
}

impl Places {
    pub(super) fn new(author: &str) -> Self {
        Self {
            author: author.to_owned(),
            ..Self::default()
        }
    }

    pub(super) fn copied(&mut self, at: usize, from: usize) {
        self.pieces.push((at, from, true));
    }

    pub(super) fn made(&mut self, at: usize, from: usize) {
        self.pieces.push((at, from, false));
    }

    pub(super) fn of(&mut self, engine: &str) {
        if engine == self.author {
            // Nothing to look up.
            *self = Self::default();
        } else {
            self.engine = engine.to_owned();
        }
    }

    /// The author's line and column, of the engine's.
    fn author(&self, line: u32, column: u32) -> (u32, u32) {
        self.look_up(line, column).unwrap_or((line, column))
    }

    fn lines(&self) -> Lines {
        let mut lines: BTreeMap<u32, BTreeSet<u32>> = BTreeMap::new();
        let (engine, author) = (Ends::of(&self.engine), Ends::of(&self.author));
        let ends = self
            .pieces
            .iter()
            .skip(1)
            .map(|(at, _, _)| *at)
            .chain([self.engine.len()]);
        for ((at, from, copied), end) in self.pieces.iter().zip(ends) {
            let mut offset = *at;
            // Word by word: a line may hold words of several.
            for word in self
                .engine
                .get(*at..end)
                .unwrap_or_default()
                .split_inclusive(char::is_whitespace)
            {
                if !word.trim().is_empty() {
                    let of = if *copied { from + (offset - at) } else { *from };
                    lines
                        .entry(engine.line_at(offset))
                        .or_default()
                        .insert(author.line_at(of));
                }
                offset += word.len();
            }
        }
        Lines(lines)
    }

    fn look_up(&self, line: u32, column: u32) -> Option<(u32, u32)> {
        let mut start = 0;
        for _ in 1..line {
            start += self.engine.get(start..)?.find('\n')? + 1;
        }
        let wanted = usize::try_from(column.checked_sub(1)?).ok()?;
        let mut passed = 0;
        let mut offset = start;
        for c in self.engine.get(start..)?.chars().take_while(|c| *c != '\n') {
            if passed >= wanted {
                break;
            }
            passed += width(c);
            offset += c.len_utf8();
        }
        let next = self.pieces.partition_point(|(at, _, _)| *at <= offset);
        let (at, from, copied) = self.pieces.get(next.checked_sub(1)?)?;
        let offset = if *copied { from + (offset - at) } else { *from };
        let before = self.author.get(..offset)?;
        let start = before.rfind('\n').map_or(0, |at| at + 1);
        let line = before.bytes().filter(|byte| *byte == b'\n').count() + 1;
        let column = before.get(start..)?.chars().map(width).sum::<usize>() + 1;
        Some((u32::try_from(line).ok()?, u32::try_from(column).ok()?))
    }
}

/// The places of each file that an engine has.
#[derive(Clone, Debug, Default)]
pub(in crate::policy) struct Origins(Vec<(String, Places)>);

impl Origins {
    pub(in crate::policy) fn add(&mut self, file: &str, places: Places) {
        self.0.push((file.to_owned(), places));
    }

    /// The author's line and column of a file, of the engine's.
    pub(in crate::policy) fn author(&self, file: &str, line: u32, column: u32) -> (u32, u32) {
        let of_file = self.0.iter().find(|(of, _)| of == file);
        of_file.map_or((line, column), |(_, places)| places.author(line, column))
    }

    /// The author's lines of a file, by those of the engine.
    pub(in crate::policy) fn lines(&self, file: &str) -> Lines {
        let of_file = self.0.iter().find(|(of, _)| of == file);
        of_file.map_or_else(Lines::default, |(_, places)| places.lines())
    }
}
