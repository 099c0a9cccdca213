//! `coditect stats`.

use std::collections::BTreeMap;

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use coditect_core::prices::{Price, Prices, Tokens};
use coditect_local_store::TokenUse;
use serde::Serialize;
use serde_json::json;

use super::recall::Filters;
use crate::context::Context;
use crate::exit::{CommandError, Exit};
use crate::table::{Table, grouped};

const HELP: &str = "\
An answer of a model counts once, by its own id, with the greatest numbers that were seen of it:
transcripts repeat it while it streams, and sessions that go on from others repeat all of theirs.
Days are those of UTC.

Cost is what the tokens would have cost by the vendors' list prices, where no agent told a cost; it
is no bill. Models without a price count as unknown, not as free. ~/.coditect/prices.json has your
own, in US dollars for a million tokens, by the beginning of the model's name:
  {\"llama-\": {\"input\": 0.2, \"output\": 0.6, \"cache_write\": 0.2, \"cache_read\": 0.02}}

Examples:
  coditect stats                              by day
  coditect stats --by model --since 2026-02-01
  coditect stats --by project --agent claude
  coditect stats --project app --json | jq .total.cost_usd

--json: {by, lines [{key, answers, input_tokens, output_tokens, cache_creation_input_tokens,
cache_read_input_tokens, cost_usd, answers_without_price}], total {the same}, activity {sessions,
messages, tool_calls, tool_failures}}. cost_usd is null where no price is known at all.";

/// Counts tokens and what they would have cost.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct Stats {
    /// What to count by
    #[arg(long, value_enum, default_value = "day")]
    by: By,
    #[command(flatten)]
    filters: Filters,
}

/// What to count by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum By {
    /// Day
    Day,
    /// Model
    Model,
    /// Project, or the folder of sessions without one
    Project,
    /// Agent program
    Agent,
}

/// What some answers took together.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
struct Line {
    answers: u64,
    input_tokens: u64,
    output_tokens: u64,
    cache_creation_input_tokens: u64,
    cache_read_input_tokens: u64,
    cost_usd: Option<f64>,
    answers_without_price: u64,
}

impl Line {
    fn add(&mut self, one: &TokenUse, prices: &Prices) {
        self.answers += one.answers;
        self.input_tokens += one.input_tokens;
        self.output_tokens += one.output_tokens;
        self.cache_creation_input_tokens += one.cache_creation_input_tokens;
        self.cache_read_input_tokens += one.cache_read_input_tokens;
        let tokens = Tokens {
            input: one.input_tokens,
            output: one.output_tokens,
            cache_write: one.cache_creation_input_tokens,
            cache_read: one.cache_read_input_tokens,
        };
        // Told costs cover all of a group's answers, or the list price does.
        let told = one
            .cost_usd
            .filter(|_| one.answers_with_cost == one.answers);
        let model = one.model.as_deref().unwrap_or_default();
        match told.or_else(|| prices.cost(model, tokens)) {
            Some(cost) => *self.cost_usd.get_or_insert(0.0) += cost,
            // What no model wrote takes nothing.
            None if tokens == Tokens::default() => {}
            None => self.answers_without_price += one.answers,
        }
    }

    fn cells(&self, key: &str) -> [String; 7] {
        let cost = match (self.cost_usd, self.answers_without_price) {
            (None, 0) => "-".to_owned(),
            (None, _) => "unknown".to_owned(),
            (Some(cost), 0) => format!("{cost:.2}"),
            (Some(cost), _) => format!("{cost:.2} + unknown"),
        };
        [
            key.to_owned(),
            grouped(self.answers),
            grouped(self.input_tokens),
            grouped(self.output_tokens),
            grouped(self.cache_creation_input_tokens),
            grouped(self.cache_read_input_tokens),
            cost,
        ]
    }
}

/// Runs the command.
pub(crate) fn run(context: &Context, command: &Stats) -> anyhow::Result<Exit> {
    let store = context.store()?;
    let prices = prices(context)?;
    let which = command.filters.which(&store, None)?;
    let activity = store.activity(&which)?;
    let uses = store.token_use(&which)?;
    let mut lines: BTreeMap<String, Line> = BTreeMap::new();
    let mut total = Line::default();
    for one in &uses {
        let key = match command.by {
            By::Day => &one.day,
            By::Model => &one.model,
            By::Project => &one.project,
            By::Agent => &one.agent,
        };
        let key = key.clone().unwrap_or_else(|| "unknown".to_owned());
        lines.entry(key).or_default().add(one, &prices);
        total.add(one, &prices);
    }
    let document = json!({
        "by": command.by.to_possible_value().map(|by| by.get_name().to_owned()),
        "lines": lines.iter().map(|(key, line)| {
            let mut line = json!(line);
            line["key"] = json!(key);
            line
        }).collect::<Vec<_>>(),
        "total": total,
        "activity": activity,
    });
    context.printer.either(&document, |printer| {
        printer.line(&format!(
            "{} sessions, {} messages, {} calls of tools, {} of them failed",
            grouped(activity.sessions),
            grouped(activity.messages),
            grouped(activity.tool_calls),
            grouped(activity.tool_failures),
        ))?;
        if lines.is_empty() {
            return Ok(());
        }
        table(command.by, &lines, &total).print(printer)
    })?;
    if total.answers_without_price > 0 && !context.printer.is_json() {
        let count = grouped(total.answers_without_price);
        context
            .printer
            .note(&format!("of {count} answers nobody knows the price"));
        context.printer.hint("~/.coditect/prices.json; see --help");
    }
    Ok(Exit::Ok)
}

fn table(by: By, lines: &BTreeMap<String, Line>, total: &Line) -> Table {
    let head = match by {
        By::Day => "day",
        By::Model => "model",
        By::Project => "project",
        By::Agent => "agent",
    };
    let mut table = Table::new(&[
        head,
        "#answers",
        "#input",
        "#output",
        "#cache write",
        "#cache read",
        "#US$",
    ]);
    for (key, line) in lines {
        table.row(line.cells(key));
    }
    if lines.len() > 1 {
        table.row(total.cells("total"));
    }
    table
}

/// Reads a person's own prices, if there are any.
fn prices(context: &Context) -> anyhow::Result<Prices> {
    let file = context.paths.config_file().with_file_name("prices.json");
    let text = match std::fs::read_to_string(&file) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Prices::default()),
        Err(error) => {
            return Err(error).with_context(|| format!("cannot read {}", file.display()));
        }
    };
    let own: BTreeMap<String, Price> = serde_json::from_str(&text).map_err(|error| {
        let error = CommandError::new(Exit::Usage, format!("{}: {error}", file.display()));
        error.hint("coditect stats --help shows its form")
    })?;
    Ok(Prices::with_own(own))
}
