//! The page, taken apart into what a reader types and what the page says will be seen.

/// A chapter of the page and what is in it to be done.
pub(super) struct Section {
    pub(super) title: &'static str,
    pub(super) blocks: Vec<Block>,
}

pub(super) enum Block {
    Console(Vec<Command>),
    /// Statements, one after the other, as psql sends them.
    Sql(Vec<&'static str>),
}

/// One command, its continuation lines with it.
pub(super) struct Command {
    pub(super) line: String,
    /// Lines that its output has, among others.
    expected: Vec<&'static str>,
}

impl Command {
    /// Every line that the page shows is among what was said; one that ends with dots is its beginning. Numbers are those of another day.
    pub(super) fn check(&self, said: &str) {
        let seen: Vec<String> = said.lines().map(without_numbers).collect();
        for line in &self.expected {
            let shown = without_numbers(line);
            let stands = match shown.strip_suffix('…') {
                Some(beginning) => seen.iter().any(|line| line.starts_with(beginning)),
                None => seen.contains(&shown),
            };
            assert!(stands, "$ {}\nthe page has: {line}\nit said:\n{said}", self.line);
        }
    }
}

/// Every number of a line is the same one, and every gap one space.
fn without_numbers(line: &str) -> String {
    let mut plain = String::new();
    for c in line.split_whitespace().collect::<Vec<_>>().join(" ").chars() {
        match c {
            '0'..='9' if plain.ends_with('#') => {}
            '0'..='9' => plain.push('#'),
            c => plain.push(c),
        }
    }
    plain
}

/// The chapters in their order.
pub(super) fn sections(page: &'static str) -> Vec<Section> {
    let chapters = page.split("\n## ").skip(1);
    chapters
        .map(|chapter| {
            let (title, text) = chapter.split_once('\n').expect("a title");
            Section { title, blocks: blocks(text) }
        })
        .collect()
}

/// The fenced blocks of a chapter.
fn blocks(text: &'static str) -> Vec<Block> {
    let fenced = text.split("```").skip(1).step_by(2);
    fenced
        .map(|block| {
            let (language, body) = block.split_once('\n').expect("a language");
            match language {
                "console" => Block::Console(commands(body)),
                "sql" => {
                    Block::Sql(body.split(";\n").map(str::trim).filter(|statement| !statement.is_empty()).collect())
                }
                other => panic!("nobody knows how to follow {other:?}"),
            }
        })
        .collect()
}

fn commands(body: &'static str) -> Vec<Command> {
    let mut commands: Vec<Command> = Vec::new();
    for line in body.lines() {
        match (line.strip_prefix("$ "), commands.last_mut()) {
            (Some(line), _) => commands.push(Command { line: line.to_owned(), expected: Vec::new() }),
            (None, Some(last)) if last.line.ends_with('\\') => {
                last.line.truncate(last.line.len() - 1);
                last.line.push_str(line.trim_start());
            }
            (None, Some(last)) => last.expected.push(line),
            (None, None) => panic!("a block begins with a command: {line}"),
        }
    }
    commands
}
