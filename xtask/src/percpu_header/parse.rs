//! The declarative text of the sections, as the macros of the crate take it.

use anyhow::{Context as _, Result, bail, ensure};

/// A word of Rust's grammar, as far as these macros have it.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    /// A string, unescaped.
    Text(String),
    /// A name, `$` included.
    Name(String),
    /// Anything else, a character each.
    Mark(char),
}

fn tokens(source: &str) -> Result<Vec<Token>> {
    let mut tokens = Vec::new();
    let mut rest = source;
    while let Some(first) = rest.chars().next() {
        if rest.starts_with("//") {
            rest = rest.split_once('\n').map_or("", |(_, after)| after);
        } else if first == '"' {
            let mut text = String::new();
            let mut letters = rest[1..].char_indices();
            let end = loop {
                match letters.next().context("a string without an end")? {
                    (at, '"') => break at,
                    (_, '\\') => text.push(match letters.next().context("an escape")?.1 {
                        'n' => '\n',
                        'r' => '\r',
                        't' => '\t',
                        other => other,
                    }),
                    (_, letter) => text.push(letter),
                }
            };
            tokens.push(Token::Text(text));
            rest = &rest[end + 2..];
        } else if first == '$' && rest[1..].starts_with(char::is_alphabetic)
            || first.is_alphanumeric()
            || first == '_'
        {
            let is_part = |letter: char| letter.is_alphanumeric() || letter == '_';
            let end = rest[1..]
                .find(|letter| !is_part(letter))
                .map_or(rest.len(), |at| at + 1);
            tokens.push(Token::Name(rest[..end].to_owned()));
            rest = &rest[end..];
        } else {
            if !first.is_whitespace() {
                tokens.push(Token::Mark(first));
            }
            rest = &rest[first.len_utf8()..];
        }
    }
    Ok(tokens)
}

/// What lies between the bracket at `open` and its partner, and the place behind that.
fn group(tokens: &[Token], open: usize) -> Result<(&[Token], usize)> {
    let mut depth = 0;
    for (at, token) in tokens.iter().enumerate().skip(open) {
        match token {
            Token::Mark('(' | '{' | '[') => depth += 1,
            Token::Mark(')' | '}' | ']') => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Ok((&tokens[open + 1..at], at + 1));
        }
    }
    bail!("a bracket without its partner")
}

fn texts(tokens: &[Token]) -> Vec<String> {
    let text = |token: &Token| match token {
        Token::Text(text) => Some(text.clone()),
        _ => None,
    };
    tokens.iter().filter_map(text).collect()
}

fn names(tokens: &[Token]) -> Vec<String> {
    let name = |token: &Token| match token {
        Token::Name(name) => Some(name.clone()),
        _ => None,
    };
    tokens.iter().filter_map(name).collect()
}

fn is_name(token: Option<&Token>, name: &str) -> bool {
    matches!(token, Some(Token::Name(is)) if is == name)
}

/// One section: `section! { pub(crate) unsafe fn NAME(OPERANDS) ... }`.
#[derive(Debug, Default)]
pub struct Section {
    pub name: String,
    pub operands: Vec<String>,
    pub temporaries: Vec<String>,
    /// The register of its result.
    pub result: Option<String>,
    pub lines: Vec<String>,
    /// Relaxed, release.
    pub commits: [String; 2],
}

/// All sections of one CPU, and what stands before and behind each.
#[derive(Debug)]
pub struct Sections {
    pub sections: Vec<Section>,
    /// The descriptor, in front of its exits, the text of an exit with `{exit}` in it, and what is behind them.
    pub descriptor: [String; 3],
    pub enter: String,
    pub leave: String,
}

impl Sections {
    pub fn read(source: &str, template: &str) -> Result<Self> {
        let source = tokens(source)?;
        let mut sections = Vec::new();
        for at in 0..source.len() {
            if is_name(source.get(at), "section") && source.get(at + 1) == Some(&Token::Mark('!')) {
                sections.push(Section::read(group(&source, at + 2)?.0)?);
            }
        }
        ensure!(!sections.is_empty(), "no section");
        Ok(Self {
            sections,
            descriptor: descriptor(&tokens(template)?)?,
            enter: enter(&source)?,
            leave: leave(&source)?,
        })
    }
}

impl Section {
    fn read(tokens: &[Token]) -> Result<Self> {
        let start = tokens.iter().position(|token| is_name(Some(token), "fn"));
        let start = start.context("a section that is no fn")?;
        let Some(Token::Name(name)) = tokens.get(start + 1) else {
            bail!("a section without a name");
        };
        let (operands, mut at) = group(tokens, start + 2)?;
        let (mut temporaries, mut result) = (Vec::new(), None);
        while tokens.get(at) != Some(&Token::Mark('{')) {
            let rest = tokens.get(at..).context("a section without its lines")?;
            match rest {
                [Token::Name(is), Token::Name(_), ..] if is == "else" => at += 2,
                [Token::Name(is), Token::Name(head), ..] if is == "result" => {
                    result = Some(head.clone());
                    at += 2;
                }
                [Token::Name(is), ..] if is == "with" => {
                    let end = rest.iter().position(|token| *token == Token::Mark('{'));
                    temporaries = names(&rest[1..end.context("a section without its lines")?]);
                    at += 1 + temporaries.len();
                }
                _ => bail!("{name}: an unknown clause"),
            }
        }
        let (body, _) = group(tokens, at)?;
        let commit = body.iter().position(|token| is_name(Some(token), "commit"));
        let commit = commit.with_context(|| format!("{name} commits nothing"))?;
        let commits = texts(group(body, commit + 1)?.0).try_into();
        let Ok(commits) = commits else {
            bail!("{name}: a commit has two orders");
        };
        Ok(Self {
            name: name.clone(),
            operands: names(operands),
            temporaries,
            result,
            lines: texts(&body[..commit]),
            commits,
        })
    }
}

/// The tokens of `macro_rules! NAME`.
fn macro_rules<'a>(tokens: &'a [Token], name: &str) -> Result<&'a [Token]> {
    let at = tokens
        .windows(3)
        .position(|window| is_name(window.first(), "macro_rules") && is_name(window.get(2), name));
    Ok(group(tokens, at.with_context(|| format!("no macro {name}"))? + 3)?.0)
}

/// The arguments of the last `concat!` of a macro.
fn concatenated(tokens: &[Token]) -> Result<&[Token]> {
    let at = tokens
        .iter()
        .rposition(|token| is_name(Some(token), "concat"));
    Ok(group(tokens, at.context("no concat!")? + 2)?.0)
}

fn enter(source: &[Token]) -> Result<String> {
    let mut text = String::new();
    let tokens = concatenated(macro_rules(source, "__section_enter")?)?;
    let mut at = 0;
    while let Some(token) = tokens.get(at) {
        at += 1;
        match token {
            Token::Text(line) => text += line,
            Token::Name(name) if name == "$range" => text += "{range}",
            Token::Mark('$') => at = group(tokens, at)?.1 + 1,
            Token::Mark(',') => {}
            other => bail!("enter!: {other:?}"),
        }
    }
    Ok(text)
}

fn leave(source: &[Token]) -> Result<String> {
    let rules = macro_rules(source, "__section_leave")?;
    // The handler of a section without a result, which the first rule names.
    let handler = texts(rules)
        .into_iter()
        .next()
        .context("leave! has no handler")?;
    let mut text = String::new();
    let tokens = concatenated(rules)?;
    let mut at = 0;
    while let Some(token) = tokens.get(at) {
        at += 1;
        match token {
            Token::Text(line) => text += line,
            Token::Name(name) if name == "$handler" => text += &handler,
            Token::Mark(',') => {}
            other => bail!("leave!: {other:?}"),
        }
    }
    Ok(text)
}

fn descriptor(template: &[Token]) -> Result<[String; 3]> {
    let tokens = concatenated(macro_rules(template, "__section_descriptor")?)?;
    let open = tokens.iter().position(|token| *token == Token::Mark('$'));
    let open = open.context("the descriptor has no exits")?;
    let (exit, behind) = group(tokens, open + 1)?;
    let exit = exit.iter().filter_map(|token| match token {
        Token::Text(text) => Some(text.clone()),
        Token::Name(_) => Some("{exit}".to_owned()),
        Token::Mark(_) => None,
    });
    Ok([
        texts(&tokens[..open]).concat(),
        exit.collect(),
        texts(&tokens[behind..]).concat(),
    ])
}

/// A variant of `percpu::Operation`: the pseudo-code, and the rest of its documentation.
#[derive(Debug)]
pub struct Operation {
    pub name: String,
    pub documentation: Vec<String>,
}

impl Operation {
    /// In the order of the source.
    pub fn all(source: &str) -> Result<Vec<Self>> {
        let (_, body) = source
            .split_once("pub enum Operation {")
            .context("no Operation")?;
        let (body, _) = body
            .split_once("\n}\n")
            .context("an Operation without an end")?;
        let mut all = Vec::new();
        let mut documentation = Vec::new();
        for line in body.lines() {
            let line = line.strip_prefix("    ").unwrap_or(line);
            if let Some(text) = line.strip_prefix("///") {
                documentation.push(text.strip_prefix(' ').unwrap_or(text).to_owned());
            } else if line.starts_with(char::is_uppercase) {
                let end = line.find(|letter: char| !letter.is_alphanumeric());
                all.push(Self {
                    name: snake(&line[..end.unwrap_or(line.len())]),
                    documentation: std::mem::take(&mut documentation),
                });
            }
        }
        Ok(all)
    }
}

/// `AddThrough` as `add_through`.
fn snake(name: &str) -> String {
    let mut snake = String::new();
    for letter in name.chars() {
        if letter.is_uppercase() && !snake.is_empty() {
            snake.push('_');
        }
        snake.extend(letter.to_lowercase());
    }
    snake
}
