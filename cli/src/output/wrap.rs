//! Lines of at most 80 columns.

/// The width that every line keeps to, on any terminal: what a person pastes into a chat stays readable.
pub const WIDTH: usize = 80;

/// `text` behind `indent` spaces.
pub fn indented(text: &str, indent: usize) -> String {
    hanging("", text, indent)
}

/// `text` behind `indent` spaces and `prefix`; further lines stand under its first word.
pub fn hanging(prefix: &str, text: &str, indent: usize) -> String {
    let margin = indent + prefix.chars().count();
    let mut lines: Vec<String> = Vec::new();
    for paragraph in text.lines() {
        let mut line = String::new();
        for word in paragraph.split_whitespace() {
            let needed = line.chars().count() + usize::from(!line.is_empty()) + word.chars().count();
            if !line.is_empty() && margin + needed > WIDTH {
                lines.push(std::mem::take(&mut line));
            }
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
        lines.push(line);
    }
    let mut wrapped = String::new();
    for (number, line) in lines.iter().enumerate() {
        if number == 0 {
            wrapped.push_str(&" ".repeat(indent));
            wrapped.push_str(prefix);
        } else {
            wrapped.push('\n');
            wrapped.push_str(&" ".repeat(margin));
        }
        wrapped.push_str(line);
    }
    wrapped
}

/// `text` on one line, cut at `width` with an ellipsis.
pub fn cut(text: &str, width: usize) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.chars().count() <= width {
        return line;
    }
    let mut kept: String = line.chars().take(width.saturating_sub(1)).collect();
    kept.push('…');
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_line_is_wider_and_no_word_is_lost() {
        let text = "word ".repeat(60);
        let wrapped = hanging("hint: ", &text, 2);
        assert!(wrapped.lines().all(|line| line.chars().count() <= WIDTH), "{wrapped}");
        assert!(wrapped.lines().skip(1).all(|line| line.starts_with("        word")), "{wrapped}");
        assert_eq!(wrapped.matches("word").count(), 60);
    }

    #[test]
    fn a_word_wider_than_the_line_stays_whole() {
        let long = "x".repeat(100);
        assert_eq!(indented(&long, 0), long);
    }

    #[test]
    fn cutting() {
        assert_eq!(cut("ALTER  TABLE\n t", 20), "ALTER TABLE t");
        assert_eq!(cut("ALTER TABLE t", 8), "ALTER T…");
    }
}
