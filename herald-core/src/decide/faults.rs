//! What is wrong with a document, each fault with where it is.

use crate::rejection::{RejectedItem, Rejection};

/// What is wrong, each with where it is.
#[derive(Default)]
pub(super) struct Faults(Vec<RejectedItem>);

impl Faults {
    pub(super) fn add(&mut self, field: &str, detail: impl Into<String>) {
        self.0.push(RejectedItem {
            detail: detail.into(),
            field: Some(field.into()),
            ..RejectedItem::default()
        });
    }

    pub(super) fn need(&mut self, field: &str, is_fine: bool, detail: impl FnOnce() -> String) {
        if !is_fine {
            self.add(field, detail());
        }
    }

    pub(super) fn check(self) -> Result<(), Rejection> {
        match self.0.first() {
            None => Ok(()),
            Some(first) => {
                let field = first.field.as_deref().unwrap_or_default();
                Err(Rejection::invalid(format!("{field}: {}", first.detail)).with_items(self.0))
            }
        }
    }
}

/// One fault alone.
pub(super) fn at(field: &str, detail: impl Into<String>) -> Rejection {
    let mut faults = Faults::default();
    faults.add(field, detail);
    faults.check().expect_err("there is one")
}
