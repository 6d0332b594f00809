//! rrsa
