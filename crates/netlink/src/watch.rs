//! Learns from the kernel that something changed.
