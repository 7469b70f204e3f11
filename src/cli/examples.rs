//! Tests the examples in the help of each command: each help ends in a few examples, and each example can be parsed.

use clap::{Command, Parser};

use super::{Cli, complete_command_line};

/// Examples are not wrapped, so each line has to fit an 80-column terminal.
const COLUMNS: usize = 80;

#[test]
fn each_help_ends_in_three_to_five_examples_that_are_taken() {
    check("pgio", &complete_command_line());
}

fn check(name: &str, command: &Command) {
    let help = command.get_after_help().unwrap_or_else(|| panic!("{name} has no examples")).to_string();
    let (_, examples) = help.split_once("Examples:\n").unwrap_or_else(|| panic!("{name} has no examples"));
    let examples: Vec<_> = examples.lines().collect();
    assert!((3..=5).contains(&examples.len()), "{name} has {}", examples.len());
    for example in examples {
        assert!(example.starts_with("  ") && example.chars().count() <= COLUMNS, "{name}: {example}");
        take(example.trim_start());
    }
    for subcommand in command.get_subcommands().filter(|subcommand| subcommand.get_name() != "help") {
        check(&format!("{name} {}", subcommand.get_name()), subcommand);
    }
}

#[test]
fn each_command_of_the_recipes_is_taken() {
    let recipes = include_str!("../../docs/recipes.md");
    let commands: Vec<_> = recipes.lines().filter_map(|line| line.strip_prefix("$ ")).collect();
    assert!(commands.len() > 40, "{}", commands.len());
    commands.into_iter().for_each(take_code);
}

/// Parses each pgio command of an example. Two spaces end the commands and start a remark.
fn take(example: &str) {
    take_code(example.split("  ").next().unwrap_or_default());
}

fn take_code(code: &str) {
    let words = shlex::split(code).unwrap_or_else(|| panic!("no shell takes {code}"));
    let ends = |word: &String| ["|", "&&", "||"].contains(&word.as_str()) || word.starts_with(['>', '<']);
    let commands = words.split(ends);
    for command in commands.filter(|words| words.first().is_some_and(|word| word == "pgio")) {
        if let Err(error) = Cli::try_parse_from(command) {
            panic!("{code}: {error}");
        }
    }
}
