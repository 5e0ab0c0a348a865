//! Feedback from people: texts, CSV and JSON lines. A bad row is a value with its line number and its reason, so that the
//! others go on.

use std::path::Path;

use uuid::Uuid;

/// The project of rows that name none: that of the samples.
pub(crate) const SAMPLE_PROJECT: Uuid = Uuid::from_u128(0x5f3c_9a10_7d42_4e8b_9c61_0d2e_6b7f_a401);

/// A title made from a text is cut here, in characters.
const TITLE: usize = 80;

/// One row of `posts`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Feedback {
    pub(crate) id: Uuid,
    pub(crate) project_id: Uuid,
    pub(crate) user_id: Option<Uuid>,
    pub(crate) title: String,
    pub(crate) description: String,
}

/// One row of the input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Row {
    /// Its line in the input, from 1 on; for arguments, its place.
    pub(crate) line: u64,
    /// The feedback, or why there is none.
    pub(crate) content: Result<Feedback, String>,
}

/// How an input is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// A header, then rows.
    Csv,
    /// An object on each line.
    JsonLines,
    /// A text on each line.
    Text,
}

impl Format {
    /// By the file's name; standard input has none and is judged by how it begins.
    pub(crate) fn of(path: Option<&Path>, content: &[u8]) -> Format {
        if let Some(path) = path {
            let end = path.extension().and_then(|end| end.to_str()).unwrap_or_default().to_ascii_lowercase();
            return match end.as_str() {
                "csv" => Format::Csv,
                "jsonl" | "ndjson" | "json" => Format::JsonLines,
                _ => Format::Text,
            };
        }
        let first = content.split(|byte| *byte == b'\n').next().unwrap_or_default();
        if first.trim_ascii_start().starts_with(b"{") {
            return Format::JsonLines;
        }
        let header = String::from_utf8_lossy(first).to_ascii_lowercase();
        let names: Vec<&str> = header.split(',').map(|name| name.trim().trim_matches('"')).collect();
        let is_header = names.contains(&"title") && names.iter().all(|name| KNOWN.contains(name));
        if is_header { Format::Csv } else { Format::Text }
    }
}

const KNOWN: [&str; 4] = ["title", "description", "project_id", "user_id"];

/// Reads an input. `Err` is for one that is wrong as a whole: a CSV without a header that we know.
pub(crate) fn parse(format: Format, content: &[u8], project: Uuid) -> Result<Vec<Row>, String> {
    let content = content.strip_prefix(b"\xef\xbb\xbf").unwrap_or(content); // what Excel writes in front
    match format {
        Format::Csv => csv(content, project),
        Format::JsonLines => Ok(lines(content, project, json)),
        Format::Text => {
            Ok(lines(content, project, |line| Ok(Fields { description: line.to_owned(), ..Fields::default() })))
        }
    }
}

/// Texts from the command line.
pub(crate) fn texts(texts: &[String], project: Uuid) -> Vec<Row> {
    let row = |text: &String| Fields { description: text.clone(), ..Fields::default() }.feedback(project);
    texts.iter().zip(1..).map(|(text, line)| Row { line, content: row(text) }).collect()
}

/// A row as it was written.
#[derive(Debug, Default)]
struct Fields {
    title: String,
    description: String,
    project_id: String,
    user_id: String,
}

impl Fields {
    fn feedback(self, project: Uuid) -> Result<Feedback, String> {
        let uuid = |name: &str, text: &str| Uuid::parse_str(text).map_err(|_| format!("{name} {text:?} is no UUID"));
        let (title, description) = (self.title.trim(), self.description.trim());
        let title = if title.is_empty() { heading(description) } else { title.to_owned() };
        if title.is_empty() {
            return Err("it has neither a title nor a description".to_owned());
        }
        if title.contains('\0') || description.contains('\0') {
            return Err("it holds a NUL character, which Postgres cannot store".to_owned());
        }
        Ok(Feedback {
            id: Uuid::new_v4(),
            project_id: if self.project_id.is_empty() { project } else { uuid("project_id", &self.project_id)? },
            user_id: if self.user_id.is_empty() { None } else { Some(uuid("user_id", &self.user_id)?) },
            title,
            description: description.to_owned(),
        })
    }
}

/// The first line of a text, cut at a word where it is long.
fn heading(text: &str) -> String {
    let first = text.lines().next().unwrap_or_default().trim();
    let Some((cut, _)) = first.char_indices().nth(TITLE) else { return first.to_owned() };
    let cut = &first[..cut];
    format!("{}…", cut.rsplit_once(' ').map_or(cut, |(whole_words, _)| whole_words))
}

fn lines(content: &[u8], project: Uuid, read: impl Fn(&str) -> Result<Fields, String>) -> Vec<Row> {
    let numbered = content.split(|byte| *byte == b'\n').zip(1..);
    let filled = numbered.filter(|(line, _)| !line.trim_ascii().is_empty());
    let row = |line: &[u8]| {
        let text = std::str::from_utf8(line).map_err(|_| "it is not UTF-8".to_owned())?;
        read(text.trim())?.feedback(project)
    };
    filled.map(|(text, line)| Row { line, content: row(text) }).collect()
}

fn json(line: &str) -> Result<Fields, String> {
    let object: serde_json::Map<String, serde_json::Value> =
        serde_json::from_str(line).map_err(|error| format!("it is no JSON object: {error}"))?;
    let field = |name: &str| match object.get(name) {
        None | Some(serde_json::Value::Null) => Ok(String::new()),
        Some(serde_json::Value::String(text)) => Ok(text.clone()),
        Some(_) => Err(format!("its {name} is no text")),
    };
    Ok(Fields {
        title: field("title")?,
        description: field("description")?,
        project_id: field("project_id")?,
        user_id: field("user_id")?,
    })
}

fn csv(content: &[u8], project: Uuid) -> Result<Vec<Row>, String> {
    let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(content);
    let header = reader.byte_headers().map_err(|error| error.to_string())?.clone();
    let column =
        |name: &str| header.iter().position(|column| column.trim_ascii().eq_ignore_ascii_case(name.as_bytes()));
    let columns = KNOWN.map(column);
    if columns[0].is_none() && columns[1].is_none() {
        return Err("its first line must name the columns, `title` or `description` among them".to_owned());
    }
    let width = header.len();
    let read = |record: &csv::ByteRecord| {
        if record.len() != width {
            return Err(format!("it has {} columns where the header has {width}", record.len()));
        }
        let field = |column: Option<usize>| {
            let bytes = column.and_then(|column| record.get(column)).unwrap_or_default();
            String::from_utf8(bytes.to_vec()).map_err(|_| "it is not UTF-8".to_owned())
        };
        let [title, description, project_id, user_id] = columns;
        let (project_id, user_id) = (field(project_id)?.trim().to_owned(), field(user_id)?.trim().to_owned());
        Fields { title: field(title)?, description: field(description)?, project_id, user_id }.feedback(project)
    };
    let mut rows = Vec::new();
    for record in reader.byte_records() {
        // With any number of columns allowed, bytes in memory give no error.
        let record = record.map_err(|error| error.to_string())?;
        let line = record.position().map_or(0, csv::Position::line);
        rows.push(Row { line, content: read(&record) });
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(format: Format, content: &str) -> Vec<Row> {
        parse(format, content.as_bytes(), SAMPLE_PROJECT).unwrap()
    }

    fn titles(rows: &[Row]) -> Vec<&str> {
        rows.iter().filter_map(|row| row.content.as_ref().ok()).map(|feedback| feedback.title.as_str()).collect()
    }

    #[test]
    fn a_bad_line_of_json_is_named_and_the_others_go_on() {
        let rows = read(
            Format::JsonLines,
            "{\"title\": \"one\"}\n\n{\"title\": 2}\n{\"titel\": \"x\"}\nno\n{\"title\": \"two\"}",
        );
        assert_eq!(titles(&rows), ["one", "two"]);
        let bad: Vec<u64> = rows.iter().filter(|row| row.content.is_err()).map(|row| row.line).collect();
        assert_eq!(bad, [3, 4, 5]);
    }

    #[test]
    fn a_csv_row_keeps_its_line_number_behind_a_cell_with_line_breaks() {
        let rows = read(Format::Csv, "title,description\none,\"a\nb\"\ntwo,b,too many\nthree,\n");
        assert_eq!(titles(&rows), ["one", "three"]);
        assert_eq!(rows[1].line, 4);
        assert!(rows[1].content.as_ref().unwrap_err().contains("3 columns"));
    }

    #[test]
    fn a_csv_without_a_known_header_is_refused_as_a_whole() {
        assert!(parse(Format::Csv, b"name,text\na,b\n", SAMPLE_PROJECT).is_err());
    }

    #[test]
    fn bytes_that_are_no_utf_8_spoil_their_row_alone() {
        let rows = parse(Format::Csv, b"title\ngood\n\xff\xfe\nalso good\n", SAMPLE_PROJECT).unwrap();
        assert_eq!(titles(&rows), ["good", "also good"]);
        let rows = parse(Format::Text, b"good\n\xff\xfe\nalso good\n", SAMPLE_PROJECT).unwrap();
        assert_eq!(titles(&rows), ["good", "also good"]);
    }

    #[test]
    fn a_nul_character_and_a_bad_id_are_told() {
        let rows = read(Format::JsonLines, "{\"title\": \"a\\u0000b\"}\n{\"title\": \"a\", \"user_id\": \"me\"}");
        assert!(rows[0].content.as_ref().unwrap_err().contains("NUL"));
        assert!(rows[1].content.as_ref().unwrap_err().contains("user_id \"me\""));
    }

    #[test]
    fn a_text_gets_its_first_line_as_title_cut_between_words() {
        let long = "word ".repeat(40);
        let rows = texts(&["Export fails\nevery day".to_owned(), long, "  ".to_owned()], SAMPLE_PROJECT);
        let first = rows[0].content.as_ref().unwrap();
        assert_eq!((first.title.as_str(), first.description.as_str()), ("Export fails", "Export fails\nevery day"));
        let second = &rows[1].content.as_ref().unwrap().title;
        assert!(second.ends_with("word…") && second.chars().count() <= TITLE, "{second}");
        assert!(rows[2].content.is_err());
    }

    #[test]
    fn standard_input_is_judged_by_how_it_begins() {
        assert_eq!(Format::of(None, b"{\"title\": \"a\"}"), Format::JsonLines);
        assert_eq!(Format::of(None, b"Title,Description\na,b"), Format::Csv);
        assert_eq!(Format::of(None, b"The title, I think, is wrong"), Format::Text);
        assert_eq!(Format::of(None, b""), Format::Text);
    }

    #[test]
    fn a_byte_order_mark_is_no_part_of_the_header() {
        assert_eq!(titles(&read(Format::Csv, "\u{feff}title\none\n")), ["one"]);
    }

    #[test]
    fn the_samples_are_whole() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("samples/feedback.jsonl");
        let rows = parse(Format::JsonLines, &std::fs::read(path).unwrap(), SAMPLE_PROJECT).unwrap();
        assert!(rows.len() >= 8);
        assert!(rows.iter().all(|row| row.content.is_ok()));
    }
}
