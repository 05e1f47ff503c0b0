//! The shipped policies and the loader, as a user of the library meets them.

mod attacks;
mod images;
mod limits;
mod loading;
mod objects;
mod sample;
mod shipped;
