//! The built-in rules: one file per promise or door.
mod images;
mod object;
mod template;
