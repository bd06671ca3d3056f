//! isthmus-fabric
