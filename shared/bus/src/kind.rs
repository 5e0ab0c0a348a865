//! Standard or FIFO: the one place that decides by a name.

/// What kind a queue or a topic is. It is made as one and never becomes the other.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Kind {
    /// Any order, and at least once.
    #[default]
    Standard,
    /// Ordered within a group; a copy within five minutes is dropped.
    Fifo,
}

impl Kind {
    /// The kind of the queue or topic with this name, URL or ARN: the name of a FIFO one ends with `.fifo`, and no other name may (Amazon SQS API Reference,
    /// CreateQueue; Amazon SNS API Reference, CreateTopic).
    #[must_use]
    pub fn of(name: &str) -> Self {
        if name.ends_with(".fifo") { Self::Fifo } else { Self::Standard }
    }

    /// Whether it is [`Kind::Fifo`].
    #[must_use]
    pub const fn is_fifo(self) -> bool {
        matches!(self, Self::Fifo)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_name_is_the_kind_in_a_url_and_in_an_arn() {
        for (name, kind) in [
            ("https://sqs.eu-west-1.amazonaws.com/000000000000/a-Queue-1.fifo", Kind::Fifo),
            ("arn:aws:sns:eu-west-1:000000000000:a.fifo", Kind::Fifo),
            ("arn:aws:sns:eu-west-1:000000000000:a.fifo-two", Kind::Standard),
            ("https://sqs.eu-west-1.amazonaws.com/000000000000/fifo", Kind::Standard),
        ] {
            assert_eq!(Kind::of(name), kind, "{name}");
        }
    }
}
