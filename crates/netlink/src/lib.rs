//! isthmus-netlink
