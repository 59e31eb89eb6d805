//! Parses the declarative text of the sections, as the crate's macros do.

use anyhow::{Context as _, Result, bail, ensure};
use proc_macro2::{TokenStream, TokenTree};
use syn::parse::{Parse, ParseStream};
use syn::punctuated::Punctuated;
use syn::{Attribute, Expr, ExprLit, Ident, Item, Lit, LitStr, Token, Visibility};
use syn::{braced, parenthesized, token};

mod keyword {
    syn::custom_keyword!(result);
    syn::custom_keyword!(with);
    syn::custom_keyword!(commit);
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
    /// The commit: relaxed, release.
    pub commits: [String; 2],
}

impl Parse for Section {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let mut section = Section::default();
        input.call(Attribute::parse_outer)?;
        input.parse::<Visibility>()?;
        input.parse::<Token![unsafe]>()?;
        input.parse::<Token![fn]>()?;
        section.name = input.parse::<Ident>()?.to_string();
        let operands;
        parenthesized!(operands in input);
        let operands = Punctuated::<Ident, Token![,]>::parse_terminated(&operands)?;
        section.operands = operands.iter().map(Ident::to_string).collect();
        if input.parse::<Option<keyword::result>>()?.is_some() {
            section.result = Some(input.parse::<Ident>()?.to_string());
        }
        if input.parse::<Option<Token![else]>>()?.is_some() {
            input.parse::<Ident>()?;
        }
        if input.parse::<Option<keyword::with>>()?.is_some() {
            while !input.peek(token::Brace) {
                let temporary = input.parse::<Ident>()?;
                section.temporaries.push(temporary.to_string());
            }
        }
        let body;
        braced!(body in input);
        while body.peek(LitStr) {
            section.lines.push(body.parse::<LitStr>()?.value());
            body.parse::<Token![,]>()?;
        }
        body.parse::<keyword::commit>()?;
        let commits;
        braced!(commits in body);
        let relaxed = commits.parse::<LitStr>()?.value();
        commits.parse::<Token![,]>()?;
        section.commits = [relaxed, commits.parse::<LitStr>()?.value()];
        Ok(section)
    }
}

/// All sections of one CPU, and what stands before and behind each.
#[derive(Debug)]
pub struct Sections {
    pub sections: Vec<Section>,
    /// The descriptor: text before its exits, text of an exit with `{exit}` in it, text behind them.
    pub descriptor: [String; 3],
    pub enter: String,
    pub leave: String,
}

impl Sections {
    pub fn read(source: &str, template: &str) -> Result<Self> {
        let (source, template) = (syn::parse_file(source)?, syn::parse_file(template)?);
        let mut sections = Vec::new();
        for item in &source.items {
            if let Item::Macro(item) = item
                && item.mac.path.is_ident("section")
            {
                sections.push(item.mac.parse_body()?);
            }
        }
        ensure!(!sections.is_empty(), "no section");
        Ok(Self {
            sections,
            descriptor: descriptor(&template)?,
            enter: enter(&source)?,
            leave: leave(&source)?,
        })
    }
}

/// The rules of `macro_rules! NAME`.
fn macro_rules(file: &syn::File, name: &str) -> Result<Vec<TokenTree>> {
    let rules = file.items.iter().find_map(|item| match item {
        Item::Macro(item) if item.ident.as_ref()? == name => Some(item.mac.tokens.clone()),
        _ => None,
    });
    Ok(rules
        .with_context(|| format!("no macro {name}"))?
        .into_iter()
        .collect())
}

/// The arguments of the `concat!` that is the last rule of a macro.
fn concatenated(rules: &[TokenTree]) -> Result<Vec<TokenTree>> {
    let is_group = |token: &&TokenTree| matches!(token, TokenTree::Group(_));
    let last = rules
        .iter()
        .rfind(is_group)
        .context("a macro without rules")?;
    let mut concat = group(last)?.into_iter();
    let call = concat.find(|token| matches!(token, TokenTree::Ident(name) if name == "concat"));
    call.context("no concat!")?;
    let arguments = concat.nth(1).context("concat! without arguments")?;
    Ok(group(&arguments)?.into_iter().collect())
}

fn group(token: &TokenTree) -> Result<TokenStream> {
    match token {
        TokenTree::Group(group) => Ok(group.stream()),
        other => bail!("a group is expected, and not {other}"),
    }
}

/// The text of the strings, with `{NAME}` for each `$NAME`, and without what is repeated: that is for tests.
fn text(tokens: &[TokenTree]) -> Result<String> {
    let mut text = String::new();
    for token in tokens {
        match token {
            TokenTree::Literal(string) => text += &string_of(string)?,
            TokenTree::Ident(name) => text += &format!("{{{name}}}"),
            TokenTree::Group(_) | TokenTree::Punct(_) => {}
        }
    }
    Ok(text)
}

fn string_of(literal: &proc_macro2::Literal) -> Result<String> {
    match Lit::new(literal.clone()) {
        Lit::Str(string) => Ok(string.value()),
        _ => bail!("a string is expected, and not {literal}"),
    }
}

fn enter(source: &syn::File) -> Result<String> {
    text(&concatenated(&macro_rules(source, "__section_enter")?)?)
}

fn leave(source: &syn::File) -> Result<String> {
    let rules = macro_rules(source, "__section_leave")?;
    let text = text(&concatenated(&rules)?)?;
    // The handler of a section without a result, which the first rule names.
    let first = rules.get(3).context("leave! has no handler")?;
    let handler = last_string(group(first)?)?.context("leave! has no handler")?;
    Ok(text.replace("{handler}", &handler))
}

/// The last string in it, in whichever group.
fn last_string(tokens: TokenStream) -> Result<Option<String>> {
    let mut last = None;
    for token in tokens {
        match token {
            TokenTree::Literal(string) => last = Some(string_of(&string)?),
            TokenTree::Group(group) => last = last_string(group.stream())?.or(last),
            TokenTree::Ident(_) | TokenTree::Punct(_) => {}
        }
    }
    Ok(last)
}

fn descriptor(template: &syn::File) -> Result<[String; 3]> {
    let tokens = concatenated(&macro_rules(template, "__section_descriptor")?)?;
    let is_group = |token: &TokenTree| matches!(token, TokenTree::Group(_));
    let exits = tokens.iter().position(is_group);
    let exits = exits.context("the descriptor has no exits")?;
    let exit: Vec<TokenTree> = group(&tokens[exits])?.into_iter().collect();
    Ok([
        text(&tokens[..exits])?,
        text(&exit)?,
        text(&tokens[exits..])?,
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
        let file = syn::parse_file(source)?;
        let operations = file.items.into_iter().find_map(|item| match item {
            Item::Enum(item) if item.ident == "Operation" => Some(item.variants),
            _ => None,
        });
        let all = operations
            .context("no Operation")?
            .into_iter()
            .map(|variant| Self {
                name: snake(&variant.ident.to_string()),
                documentation: variant.attrs.iter().filter_map(documentation).collect(),
            });
        Ok(all.collect())
    }
}

/// The line of a doc comment.
fn documentation(attribute: &Attribute) -> Option<String> {
    let doc = attribute.meta.require_name_value().ok()?;
    match &doc.value {
        Expr::Lit(ExprLit {
            lit: Lit::Str(line),
            ..
        }) if doc.path.is_ident("doc") => {
            let line = line.value();
            Some(line.strip_prefix(' ').unwrap_or(&line).to_owned())
        }
        _ => None,
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
