//! All insertions into one file: anchors are looked up in the original text; either all insertions are made or none.

use super::insertion::{Insertion, Side};

/// The text with all insertions; or one line for each insertion whose anchor does not occur exactly once.
pub fn insert<'a>(
    text: &str,
    all: impl IntoIterator<Item = &'a Insertion>,
) -> Result<String, Vec<String>> {
    let (mut edits, mut missed) = (Vec::new(), Vec::new());
    for one in all {
        match place(text, one) {
            Ok(place) => edits.push((place, one.text)),
            Err(why) => missed.push(why),
        }
    }
    if !missed.is_empty() {
        return Err(missed);
    }
    edits.sort_by_key(|(place, _)| *place);
    let (mut inserted, mut done) = (String::new(), 0);
    for (place, new) in edits {
        inserted += &text[done..place];
        inserted += new;
        done = place;
    }
    inserted += &text[done..];
    Ok(inserted)
}

fn place(text: &str, one: &Insertion) -> Result<usize, String> {
    let Insertion { file, anchor, .. } = one;
    let places: Vec<usize> = text.match_indices(anchor).map(|(at, _)| at).collect();
    if let [place] = places[..] {
        return Ok(match one.side {
            Side::Before => place,
            Side::After => place + anchor.len(),
        });
    }
    let lines: Vec<usize> = places.iter().map(|at| line(text, *at)).collect();
    Err(match &lines[..] {
        [] => {
            let (line, found) = nearest(text, anchor);
            format!(
                "{file}:{line}: {anchor:?} does not occur in the file; the nearest line is {found:?}"
            )
        }
        [first, others @ ..] => {
            let others: Vec<String> = others.iter().map(usize::to_string).collect();
            let others = others.join(", ");
            format!("{file}:{first}: {anchor:?} must occur once, and is in line {others} too")
        }
    })
}

/// The number of the line at `place`.
fn line(text: &str, place: usize) -> usize {
    1 + text[..place].matches('\n').count()
}

/// The line most similar to the anchor, with its number.
fn nearest<'a>(text: &'a str, anchor: &str) -> (usize, &'a str) {
    let lines: Vec<&str> = text.lines().collect();
    let wanted: Vec<&str> = anchor.lines().skip_while(|line| line.is_empty()).collect();
    let likeness = |at: usize| -> usize {
        let pairs = wanted.iter().zip(&lines[at..]);
        pairs.map(|(wanted, line)| likeness(wanted, line)).sum()
    };
    // The first of equally similar ones.
    let best = (0..lines.len()).rev().max_by_key(|at| likeness(*at));
    let best = best.unwrap_or_default();
    (best + 1, lines.get(best).copied().unwrap_or_default())
}

/// The share of letter pairs that both lines have, in thousandths.
fn likeness(one: &str, other: &str) -> usize {
    let pairs = |text: &str| -> Vec<Vec<u8>> {
        text.trim()
            .as_bytes()
            .windows(2)
            .map(<[u8]>::to_vec)
            .collect()
    };
    let (one, other) = (pairs(one), pairs(other));
    let common = one.iter().filter(|pair| other.contains(pair)).count();
    2000 * common / (one.len() + other.len()).max(1)
}

#[cfg(test)]
mod tests {
    use super::super::insertions::DETACHED;
    use super::*;

    #[test]
    fn an_insertion_goes_where_its_anchor_is() {
        let one = DETACHED;
        let text = format!("a\n{}z\n", one.anchor);
        let inserted = insert(&text, [&one]).unwrap();
        assert_eq!(inserted, format!("a\n{}{}z\n", one.text, one.anchor));
    }

    #[test]
    fn an_anchor_that_is_not_there_once_is_an_error() {
        let one = DETACHED;
        let twice = format!("a\n{0}b\n{0}", one.anchor);
        let damaged = format!("a\nb\n{}", one.anchor.replace("block", "stop"));
        for (text, line) in [(String::new(), 1), (twice, 2), (damaged, 3)] {
            let missed = insert(&text, [&one, &one]).unwrap_err();
            let wanted = format!("{}:{line}: ", one.file);
            assert!(
                missed.len() == 2 && missed[0].starts_with(&wanted),
                "{missed:?}"
            );
        }
    }
}
