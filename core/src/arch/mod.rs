//! The function table through which a session calls the operations.

/// A set of kernels. All of them give the same bits; they differ in speed.
#[derive(Clone, Copy, Debug)]
pub struct Backend {
    name: &'static str,
}

impl Backend {
    /// The scalar functions of [`ops`](crate::ops), the specification. Always there.
    pub const fn scalar() -> Self {
        Self { name: "scalar" }
    }

    /// The fastest backend this CPU can run.
    pub fn best() -> Self {
        Self::scalar()
    }

    /// Short name, such as `scalar`.
    pub const fn name(&self) -> &'static str {
        self.name
    }
}

/// Name of the kernels that [`Session::new`](crate::Session::new) uses on this CPU.
pub fn backend() -> &'static str {
    Backend::best().name()
}
