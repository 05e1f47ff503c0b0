//! What the condition `TenantsBounded` of each class rests on.

use super::holders::Access;
use crate::plan::Tenants;

impl Access {
    /// Who holds more than a tenant, by class. `gap`: what could not be looked at.
    pub fn tenants(&self, gap: Option<String>) -> Tenants {
        let omitted = self.omitted();
        let omitted =
            (omitted > 0).then(|| format!("{omitted} Roles or subjects of bindings are more than are looked at"));
        let mut tenants = Tenants {
            gap: gap.or(omitted),
            ..Tenants::default()
        };
        for class in self.fenced.values() {
            tenants.by_class.entry(class.clone()).or_default();
        }
        for (class, holder) in self.unbinding() {
            for (of, holders) in &mut tenants.by_class {
                if class.is_none_or(|class| class == of) {
                    holders.insert(&holder);
                }
            }
        }
        tenants
    }
}
