//! A persistent one-to-many index.

use rpds::{RedBlackTreeMapSync, RedBlackTreeSetSync};

/// From a parent to the ordered set of its children. Cloning is free; changes cost the logarithm of the size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Index<P: Ord, C: Ord>(RedBlackTreeMapSync<P, RedBlackTreeSetSync<C>>);

impl<P: Ord + Copy, C: Ord + Copy> Index<P, C> {
    pub(crate) fn new() -> Self {
        Self(RedBlackTreeMapSync::new_sync())
    }

    pub(crate) fn insert(&mut self, parent: P, child: C) {
        if let Some(children) = self.0.get_mut(&parent) {
            children.insert_mut(child);
        } else {
            self.0
                .insert_mut(parent, RedBlackTreeSetSync::new_sync().insert(child));
        }
    }

    /// Leaves no empty set behind, so that an index depends only on what is in it.
    pub(crate) fn remove(&mut self, parent: P, child: C) {
        let Some(children) = self.0.get_mut(&parent) else {
            return;
        };
        children.remove_mut(&child);
        if children.is_empty() {
            self.0.remove_mut(&parent);
        }
    }

    pub(crate) fn count(&self, parent: P) -> usize {
        self.0.get(&parent).map_or(0, RedBlackTreeSetSync::size)
    }

    pub(crate) fn children(&self, parent: P) -> impl Iterator<Item = C> + '_ {
        self.0
            .get(&parent)
            .into_iter()
            .flat_map(|children| children.iter().copied())
    }

    /// The children above `after`, or all of them.
    pub(crate) fn children_after(&self, parent: P, after: Option<C>) -> impl Iterator<Item = C> + '_ {
        use std::ops::Bound::{Excluded, Unbounded};
        let low = after.map_or(Unbounded, Excluded);
        self.0
            .get(&parent)
            .into_iter()
            .flat_map(move |children| children.range((low, Unbounded)).copied())
    }

    /// The children from `first` on.
    pub(crate) fn children_from(&self, parent: P, first: C) -> impl Iterator<Item = C> + '_ {
        self.0
            .get(&parent)
            .into_iter()
            .flat_map(move |children| children.range(first..).copied())
    }
}
