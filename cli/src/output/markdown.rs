//! Markdown for a terminal: the same text, in lines of 80 columns.

use super::paint::Paint;
use super::wrap;

/// Lines that stand for themselves: code, tables, and whatever a fence holds.
fn is_fixed(line: &str) -> bool {
    line.starts_with("    ") || line.starts_with('|')
}

/// Wraps paragraphs and list items anew; headings are made bold, code stays as it is.
pub fn text(source: &str, paint: Paint) -> String {
    let mut lines: Vec<String> = Vec::new();
    let mut paragraph = String::new();
    let mut is_in_fence = false;
    for line in source.lines() {
        let is_fence = line.trim_start().starts_with("```");
        let starts_anew = is_fence || line.trim().is_empty() || line.starts_with('#') || is_item(line);
        if starts_anew || is_in_fence || is_fixed(line) {
            end(&mut paragraph, &mut lines);
        }
        match line {
            _ if is_fence => is_in_fence = !is_in_fence,
            _ if is_in_fence => lines.push(format!("    {line}")),
            _ if is_fixed(line) || line.trim().is_empty() => lines.push(line.trim_end().to_owned()),
            _ if line.starts_with('#') => lines.push(paint.bold(line.trim_start_matches(['#', ' ']))),
            _ => {
                if !paragraph.is_empty() {
                    paragraph.push(' ');
                }
                paragraph.push_str(line.trim());
            }
        }
    }
    end(&mut paragraph, &mut lines);
    lines.join("\n").trim_end().to_owned()
}

fn is_item(line: &str) -> bool {
    let line = line.trim_start();
    line.starts_with("- ") || line.starts_with("* ")
}

fn end(paragraph: &mut String, lines: &mut Vec<String>) {
    let text = std::mem::take(paragraph);
    if text.is_empty() {
        return;
    }
    lines.push(match text.strip_prefix("- ").or_else(|| text.strip_prefix("* ")) {
        Some(item) => wrap::hanging("- ", item, 0),
        None => wrap::indented(&text, 0),
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paragraphs_are_wrapped_and_code_is_not() {
        let long = "word ".repeat(30);
        let source = format!("# C1 rule\n\n{long}\n{long}\n\n- {long}\n- b\n\n```sql\n{long}\n```\n");
        let text = text(&source, Paint::plain());
        let wide: Vec<&str> = text.lines().filter(|line| line.chars().count() > wrap::WIDTH).collect();
        assert_eq!(wide.len(), 1, "only the code: {text}");
        assert!(text.starts_with("C1 rule\n\nword"), "{text}");
        assert!(text.contains("\n- b\n") && !text.contains("```"), "{text}");
        assert_eq!(text.matches("word").count(), 120);
    }
}
