//! Address ranges by plain arithmetic.

use std::net::IpAddr;

/// A range: its first address as a number, how many bits it fixes, and how many an address of its family has.
#[derive(Clone, Copy, Debug)]
pub(super) struct Range {
    first: u128,
    fixed: u32,
    width: u32,
}

impl Range {
    /// # Panics
    /// When it is no CIDR: the scene is wrong then.
    pub(super) fn read(text: &str) -> Self {
        let (address, fixed) = text.split_once('/').unwrap_or_else(|| panic!("{text} is no range"));
        let address = address
            .parse()
            .unwrap_or_else(|error| panic!("{text} is no range: {error}"));
        let (first, width) = number(address);
        let fixed = fixed
            .parse()
            .unwrap_or_else(|error| panic!("{text} is no range: {error}"));
        assert!(fixed <= width, "{text} is no range");
        Self { first, fixed, width }
    }

    pub(super) fn holds(&self, address: IpAddr) -> bool {
        let (number, width) = number(address);
        width == self.width && self.prefix(number) == self.prefix(self.first)
    }

    /// Whether all of `other` lies in it.
    pub(super) fn covers(&self, other: &Self) -> bool {
        self.width == other.width && self.fixed <= other.fixed && self.prefix(other.first) == self.prefix(self.first)
    }

    /// Whether any of it is left when `taken` is taken out of it.
    pub(super) fn is_left_after(&self, taken: &[Self]) -> bool {
        if taken.iter().any(|taken| taken.covers(self)) {
            return false;
        }
        if !taken.iter().any(|taken| self.covers(taken)) {
            return true;
        }
        self.halves().iter().any(|half| half.is_left_after(taken))
    }

    /// Of a range of more than one address.
    fn halves(&self) -> [Self; 2] {
        let low = Self {
            fixed: self.fixed + 1,
            ..*self
        };
        let high = Self {
            first: self.first | (1 << (self.width - low.fixed)),
            ..low
        };
        [low, high]
    }

    fn prefix(&self, number: u128) -> u128 {
        number.checked_shr(self.width - self.fixed).unwrap_or(0)
    }
}

/// An IPv4 address written as IPv6 is the IPv4 address: no packet carries the other form.
fn number(address: IpAddr) -> (u128, u32) {
    match address.to_canonical() {
        IpAddr::V4(address) => (u32::from(address).into(), 32),
        IpAddr::V6(address) => (address.into(), 128),
    }
}
