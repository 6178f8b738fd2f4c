//! The shapes of partitions.

use super::Node;

/// How the members fall apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// One is cut off from all others.
    One,
    /// Two halves; with an odd number one of them is a majority.
    Halves,
    /// Two halves that one member sees both of.
    Bridge,
    /// One that hears nothing, or is not heard.
    OneWay,
    /// Everybody sees its two neighbours alone.
    Ring,
}

impl Shape {
    pub(crate) const ALL: [Shape; 5] =
        [Shape::One, Shape::Halves, Shape::Bridge, Shape::OneWay, Shape::Ring];
}

/// The links that a partition of that shape cuts between `nodes`, given in the order in which
/// they are dealt.
pub(crate) fn shape(shape: Shape, nodes: &[Node], reversed: bool) -> Vec<(Node, Node)> {
    let count = nodes.len();
    let mut cut = Vec::new();
    for (a, &from) in nodes.iter().enumerate() {
        for (b, &to) in nodes.iter().enumerate() {
            let apart = match shape {
                Shape::One => (a == 0) != (b == 0),
                Shape::Halves => (a < count.div_ceil(2)) != (b < count.div_ceil(2)),
                Shape::Bridge => {
                    let half = count / 2;
                    a != half && b != half && (a < half) != (b < half)
                }
                Shape::OneWay => (if reversed { b } else { a }) == 0,
                Shape::Ring => {
                    let distance = a.abs_diff(b);
                    distance != 1 && distance != count - 1
                }
            };
            if a != b && apart {
                cut.push((from, to));
            }
        }
    }
    cut
}
