//! Softservice.
