//! Runs in which one thing surely happens, at a moment that the seed chooses: the server is set
//! back, a folder is copied, a file is put back. Before and after it people write and things go
//! wrong as in every run; a run in which it did not happen has failed.

use super::device::{Run, Waits};
use super::faults::REFUSED_WORD;
use super::heal::PAUSE_MS;
use super::{Outcome, Settings, World, people};
use crate::model::Database;
use coditect_core::sync::Action;
use coditect_protocol::Scope;
use coditect_protocol::catalogue::File;

/// What surely happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scenario {
    /// The server is set back to a backup, other devices push past the old head, and the first
    /// device returns.
    ServerSetBack(Return),
    /// A device's folder is copied, and both go on.
    FolderCopied,
    /// One file of a device is put back from an older copy.
    FileRestored(File),
    /// The server is set back while only a device comes that has never sent anything.
    Reader,
    /// Of so many hundred rows each hundredth is refused for good, or none.
    Refused(bool),
    /// Somebody empties the queue between adoption and pull.
    Emptied,
    /// Two processes sync a folder, and the page that came first is stored last.
    LatePage,
    /// Two processes sync a folder, and a reply is stored after a pull that knows more.
    LateReply,
    /// One device counts on a row whose text another one changes.
    Counted,
    /// The importer reads again what a person has just deleted.
    Reimported,
    /// Two devices have the same row of a table that only goes up.
    Foreign,
    /// After a set back a delete comes just before one who still has the row.
    Deleted,
    /// A new life begins while an edit waits on top of one whose reply was lost.
    Unanswered,
    /// A copy is killed between two commits of its fence.
    FenceCut,
    /// A batch that counts comes a second time, after one that counts further.
    LatePart,
    /// The server loses a row that two devices have counted on, and gets it back from one of them.
    LostPart,
    /// After a set back a delete comes while the deleted row is on its way back to the server.
    DeletedFirst,
    /// A row whose base is damaged is edited while the damage is being looked for.
    EditedDamage,
}

/// How the first device returns to a server that was set back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Return {
    /// With nothing to send.
    Idle,
    /// With edits that it made meanwhile.
    Dirty,
    /// Once, and again after the server was set back a second time.
    Twice,
    /// With a push that the server was working on when it was set back.
    InFlight,
}

impl Return {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Idle, Self::Dirty, Self::Twice, Self::InFlight];
}

/// Attempts to bring something about before the run gives up.
const TRIES_MAX: usize = 40;
/// The first device.
const FIRST: usize = 0;
/// Rows of a run in which some are refused, and of how many each one is.
const REFUSED_ROWS: usize = 400;
const REFUSED_EACH: usize = 100;

/// Plays a scenario with what a seed makes of it, heals, and judges.
#[must_use]
pub fn play(scenario: Scenario, settings: Settings) -> Outcome {
    super::run_world(settings, |world| world.play(scenario))
}

impl World {
    fn play(&mut self, scenario: Scenario) -> Result<(), String> {
        self.weather.copies = false;
        self.weather.restores = false;
        self.weather.set_backs = false;
        self.log.event(format!(
            "seed {}: {scenario:?}, {:?}",
            self.settings.seed, self.weather
        ));
        match scenario {
            Scenario::ServerSetBack(how) => {
                self.mix(30, 90)?;
                self.set_back_and_return(how)?;
            }
            Scenario::FolderCopied => {
                self.mix(30, 90)?;
                self.copy_and_go_on()?;
            }
            Scenario::FileRestored(file) => {
                self.mix(30, 90)?;
                self.restore_and_go_on(file)?;
            }
            Scenario::Refused(refuses) => self.refuse_some(refuses)?,
            // These are about one moment; before and after it everything works.
            _ => {
                self.weather.clocks = false;
                self.weather.disks = true;
                self.calm()?;
                match scenario {
                    Scenario::Reader => self.read_only()?,
                    Scenario::Emptied => self.empty_between()?,
                    Scenario::LatePage => self.late_page()?,
                    Scenario::Counted => self.count_beside_an_edit()?,
                    Scenario::Reimported => self.import_again()?,
                    Scenario::Foreign => self.push_foreign()?,
                    Scenario::Deleted => self.delete_before_a_return()?,
                    Scenario::Unanswered => self.edit_what_was_sent()?,
                    Scenario::FenceCut => self.cut_a_fence()?,
                    Scenario::LatePart => self.late_part()?,
                    Scenario::LostPart => self.lose_a_part()?,
                    Scenario::DeletedFirst => self.delete_what_is_on_its_way()?,
                    Scenario::EditedDamage => self.edit_what_is_damaged()?,
                    _ => self.late_reply()?,
                }
            }
        }
        if !matches!(scenario, Scenario::Refused(_)) {
            self.mix(20, 80)?;
        }
        self.heal()?;
        self.be_noticed(scenario)?;
        self.judge()?;
        self.prove(scenario)
    }

    /// A copy is noticed when it sends what it holds, and a file that was put back is the same as
    /// before until then: with every file sent, it must have been.
    fn be_noticed(&mut self, scenario: Scenario) -> Result<(), String> {
        let copied = matches!(scenario, Scenario::FolderCopied | Scenario::FileRestored(_));
        if !copied || self.log.counts().contains_key("fences") {
            return Ok(());
        }
        self.log.count("copies that sent nothing at first", 1);
        for number in 0..self.devices.len() {
            if self.devices[number].copied {
                self.used_everywhere(number)?;
            }
        }
        self.heal()
    }

    fn mix(&mut self, low: i64, high: i64) -> Result<(), String> {
        for _ in 0..self.random.between(low, high) {
            self.step()?;
        }
        Ok(())
    }

    fn set_back_and_return(&mut self, how: Return) -> Result<(), String> {
        let stormy = self.weather;
        self.calm()?;
        let backup = self.server.backup();
        self.go_past(&backup, &[FIRST])?;
        if self.random.chance(500) {
            // The others have read what will be lost.
            self.sync_all(1..self.devices.len())?;
        }
        let before = self.server.backup();
        if how == Return::InFlight {
            self.leave_open()?;
        }
        self.restore(backup.clone());
        let others: Vec<_> = (1..self.devices.len()).collect();
        self.go_past(&before, &others)?;
        self.log.count("times others pushed past the old head", 1);
        match how {
            Return::Idle => self.log.count("idle returns", 1),
            Return::InFlight => self.log.count("returns with a push in flight", 1),
            Return::Dirty | Return::Twice => {
                people::write_everywhere(&mut self.writer(FIRST));
                self.log.count("returns with edits", 1);
            }
        }
        self.finish(FIRST)?;
        self.sync_all(FIRST..FIRST + 1)?;
        if how == Return::Twice {
            let before = self.server.backup();
            self.restore(backup);
            self.go_past(&before, &others)?;
            self.log.count("second set backs", 1);
            self.sync_all(FIRST..FIRST + 1)?;
        }
        self.weather = stormy;
        Ok(())
    }

    fn restore(&mut self, backup: Database) {
        self.backup = Some(backup);
        self.set_back();
    }

    fn copy_and_go_on(&mut self) -> Result<(), String> {
        self.used_everywhere(FIRST)?;
        if self.random.chance(500) {
            people::write_everywhere(&mut self.writer(FIRST));
        }
        self.copy(FIRST);
        for number in [FIRST, self.devices.len() - 1] {
            people::write_everywhere(&mut self.writer(number));
        }
        Ok(())
    }

    fn restore_and_go_on(&mut self, file: File) -> Result<(), String> {
        self.used_everywhere(FIRST)?;
        if self.random.chance(500) {
            people::write_everywhere(&mut self.writer(FIRST));
        }
        self.save_file(FIRST, file);
        self.used_everywhere(FIRST)?;
        if self.random.chance(500) {
            people::write_everywhere(&mut self.writer(FIRST));
        }
        self.put_back()
    }

    fn read_only(&mut self) -> Result<(), String> {
        let reader = FIRST + 1;
        let backup = self.server.backup();
        for _ in 0..self.random.between(2, 5) {
            people::write_everywhere(&mut self.writer(FIRST));
        }
        self.sync(FIRST)?;
        self.sync(reader)?;
        self.restore(backup);
        let report = self.sync(reader)?;
        if report.reconciled == 0 {
            return Err("a reader did not notice that the server was set back".to_owned());
        }
        self.log.count("readers that noticed a set back", 1);
        Ok(())
    }

    fn empty_between(&mut self) -> Result<(), String> {
        people::insert_task(&mut self.writer(FIRST));
        self.sync(FIRST)?;
        let second = FIRST + 1;
        people::insert_task(&mut self.writer(second));
        self.devices[second].begin();
        self.advance_until(second, |waits| matches!(waits, Waits::PullSent(_)))?;
        people::empty_queue(&mut self.writer(second), File::Sessions);
        self.log
            .count("queues emptied between adoption and pull", 1);
        self.finish(second)
    }

    fn late_page(&mut self) -> Result<(), String> {
        let second = FIRST + 1;
        let text = people::decide(&mut self.writer(FIRST));
        self.sync(FIRST)?;
        self.devices[second].begin();
        self.advance_until(second, |waits| matches!(waits, Waits::PullAnswered(_)))?;
        let first_process = self.devices[second].run.take();
        people::decide_anew(&mut self.writer(FIRST), text).ok_or("the decision is there")?;
        self.sync(FIRST)?;
        self.sync(second)?;
        self.devices[second].run = first_process;
        self.log.count("pages that came late", 1);
        self.finish(second)
    }

    fn late_reply(&mut self) -> Result<(), String> {
        let second = FIRST + 1;
        let text = people::decide(&mut self.writer(FIRST));
        self.sync(FIRST)?;
        self.sync(second)?;
        let text = people::decide_anew(&mut self.writer(FIRST), text).ok_or("it is there")?;
        self.devices[FIRST].begin();
        self.advance_until(FIRST, |waits| matches!(waits, Waits::PushAnswered(_)))?;
        let first_process = self.devices[FIRST].run.take();
        self.sync(second)?;
        people::decide_anew(&mut self.writer(second), text).ok_or("it has arrived")?;
        self.sync(second)?;
        self.devices[FIRST].begin_reading();
        self.finish(FIRST)?;
        self.devices[FIRST].run = first_process;
        self.log.count("replies that came late", 1);
        self.finish(FIRST)
    }

    fn count_beside_an_edit(&mut self) -> Result<(), String> {
        let second = FIRST + 1;
        let name = people::learn(&mut self.writer(FIRST));
        self.sync(FIRST)?;
        self.sync(second)?;
        people::learn_anew(&mut self.writer(second), &name).ok_or("it has arrived")?;
        people::use_again(&mut self.writer(FIRST), &name).ok_or("it is there")?;
        self.sync(second)?;
        self.sync(FIRST)?;
        self.sync(second)?;
        // And the other way round: the count comes first.
        people::learn_anew(&mut self.writer(second), &name).ok_or("it is there")?;
        people::use_again(&mut self.writer(FIRST), &name).ok_or("it is there")?;
        self.sync(FIRST)?;
        self.sync(second)?;
        self.log.count("counts beside an edit", 2);
        Ok(())
    }

    fn import_again(&mut self) -> Result<(), String> {
        super::program::import_one(&mut self.writer(FIRST));
        self.sync(FIRST)?;
        people::delete_fact(&mut self.writer(FIRST)).ok_or("there is a message")?;
        super::program::import_one(&mut self.writer(FIRST));
        self.log.count("facts deleted and read again", 1);
        self.sync(FIRST).map(drop)
    }

    fn push_foreign(&mut self) -> Result<(), String> {
        for number in [FIRST, FIRST + 1] {
            people::answer(&mut self.writer(number), 10 + 10 * number as i64);
        }
        for number in [FIRST, FIRST + 1] {
            self.sync(number)?;
        }
        self.log
            .count("rows of one device that another has, too", 1);
        Ok(())
    }

    fn delete_before_a_return(&mut self) -> Result<(), String> {
        let second = FIRST + 1;
        for number in [FIRST, second] {
            people::write_everywhere(&mut self.writer(number));
            self.sync(number)?;
        }
        let backup = self.server.backup();
        let text = people::decide(&mut self.writer(FIRST));
        people::write_everywhere(&mut self.writer(second));
        for number in [FIRST, second] {
            self.sync(number)?;
        }
        self.restore(backup);
        people::reverse_decision(&mut self.writer(FIRST), text).ok_or("it is there")?;
        self.devices[second].begin();
        self.advance_until(second, |waits| matches!(waits, Waits::PushSent(_)))?;
        self.sync(FIRST)?;
        self.log.count("deletes before a row that comes again", 1);
        self.finish(second)
    }

    fn delete_what_is_on_its_way(&mut self) -> Result<(), String> {
        let second = FIRST + 1;
        people::write_everywhere(&mut self.writer(second));
        self.sync(second)?;
        let backup = self.server.backup();
        let text = people::decide(&mut self.writer(FIRST));
        people::write_everywhere(&mut self.writer(second));
        self.sync(FIRST)?;
        self.sync(second)?;
        self.restore(backup);
        people::reverse_decision(&mut self.writer(FIRST), text).ok_or("it is there")?;
        self.devices[second].begin();
        let gives_back = |waits: &Waits| match waits {
            Waits::PushSent(batch) => {
                let mut changes = batch.request.changes.iter();
                changes.any(|it| it.row.as_ref().is_some_and(people::is_shared))
            }
            _ => false,
        };
        self.advance_until(second, gives_back)?;
        let on_its_way = self.devices[second].run.take();
        self.sync(FIRST)?;
        self.devices[second].run = on_its_way;
        self.log.count("deletes of what is on its way back", 1);
        self.finish(second)
    }

    fn edit_what_is_damaged(&mut self) -> Result<(), String> {
        let second = FIRST + 1;
        let text = people::decide(&mut self.writer(FIRST));
        self.sync(FIRST)?;
        self.sync(second)?;
        self.make_decision_stale(second, text)
            .ok_or("it has arrived")?;
        self.devices[second].begin();
        // The damage is being looked for.
        let looks = |waits: &Waits| match waits {
            Waits::PullSent(request) => request.positions.iter().any(|it| it.descent.is_some()),
            _ => false,
        };
        self.advance_until(second, looks)?;
        let text = people::decide_anew(&mut self.writer(second), text).ok_or("it is there")?;
        self.finish(second)?;
        self.sync(second)?;
        let database = &self.server.database;
        let stored = database
            .rows
            .values()
            .filter_map(|kept| kept.fields.as_ref());
        if !stored.filter_map(super::Token::of).any(|it| it == text) {
            return Err("an edit was mended instead of sent".to_owned());
        }
        self.log.count("edits of damaged rows", 1);
        Ok(())
    }

    fn edit_what_was_sent(&mut self) -> Result<(), String> {
        let text = people::decide(&mut self.writer(FIRST));
        self.sync(FIRST)?;
        let text = people::decide_anew(&mut self.writer(FIRST), text).ok_or("it is there")?;
        self.devices[FIRST].begin();
        self.advance_until(FIRST, |waits| matches!(waits, Waits::PushAnswered(_)))?;
        // The answer is on its way when the process ends.
        self.devices[FIRST].run = None;
        self.end_process(FIRST)?;
        people::decide_anew(&mut self.writer(FIRST), text).ok_or("it is there")?;
        self.server.bump_epoch();
        self.set_backs += 1;
        self.log.count("edits on top of what was never answered", 1);
        self.sync(FIRST).map(drop)
    }

    fn cut_a_fence(&mut self) -> Result<(), String> {
        self.used_everywhere(FIRST)?;
        self.copy(FIRST);
        let copy = self.devices.len() - 1;
        for number in [FIRST, copy] {
            people::write_everywhere(&mut self.writer(number));
        }
        self.sync(FIRST)?;
        self.devices[copy].begin();
        let fence = |waits: &Waits| matches!(waits, Waits::Act(Action::Fence(..)));
        self.advance_until(copy, fence)?;
        self.devices[copy].fuse = Some(self.random.between(1, 3) as u32);
        self.advance(copy)?;
        self.log.count("fences cut off between two files", 1);
        self.sync(copy).map(drop)
    }

    fn late_part(&mut self) -> Result<(), String> {
        let name = people::learn(&mut self.writer(FIRST));
        self.sync(FIRST)?;
        people::use_again(&mut self.writer(FIRST), &name).ok_or("it is there")?;
        self.devices[FIRST].begin();
        self.advance_until(FIRST, |waits| matches!(waits, Waits::PushSent(_)))?;
        let Some(Run {
            waits: Waits::PushSent(batch),
            ..
        }) = &self.devices[FIRST].run
        else {
            return Err("nothing is sent".to_owned());
        };
        let request = batch.request.clone();
        self.finish(FIRST)?;
        people::use_again(&mut self.writer(FIRST), &name).ok_or("it is there")?;
        self.sync(FIRST)?;
        // Whatever the answer is, nobody hears it.
        let _ = (self.server).push(self.devices[FIRST].user, &request, self.now_ms);
        self.log.count("parts that came again, after later ones", 1);
        self.sync_all(FIRST..self.devices.len())
    }

    fn lose_a_part(&mut self) -> Result<(), String> {
        let second = FIRST + 1;
        people::write_everywhere(&mut self.writer(second));
        self.sync(second)?;
        let backup = self.server.backup();
        let name = people::learn(&mut self.writer(FIRST));
        self.sync(FIRST)?;
        self.sync(second)?;
        people::use_again(&mut self.writer(second), &name).ok_or("it has arrived")?;
        self.sync(second)?;
        self.sync(FIRST)?;
        self.restore(backup);
        // The second gives the row back, under its version and with its own part alone.
        self.sync(second)?;
        self.log.count("rows given back without another's part", 1);
        self.sync(FIRST).map(drop)
    }

    fn advance_until(&mut self, number: usize, there: fn(&Waits) -> bool) -> Result<(), String> {
        for _ in 0..TRIES_MAX * 10 {
            self.advance(number)?;
            if self.devices[number]
                .run
                .as_ref()
                .is_some_and(|run| there(&run.waits))
            {
                return Ok(());
            }
        }
        Err(format!("{number} does not get there"))
    }

    /// Some rows are refused for good: the rest is not slowed, and each of them is shown with its
    /// reason, after three refusals and no more.
    fn refuse_some(&mut self, refuses: bool) -> Result<(), String> {
        self.server.refused_word = Some(REFUSED_WORD.to_owned());
        self.refuses_for_good = true;
        // Every device's clock shows what it shows from now on.
        self.pass(1);
        self.weather.kills = false;
        // As large as they are, so that time goes by rows, not by pages.
        self.server.page_changes_max = coditect_protocol::limits::PULL_CHANGES_MAX;
        let each = if refuses { REFUSED_EACH } else { 0 };
        let refused = {
            let mut writer = self.writer(FIRST);
            people::insert_many(&mut writer, REFUSED_ROWS, each, REFUSED_WORD)
        };
        let began_ms = self.now_ms;
        for _ in 0..TRIES_MAX {
            self.devices[FIRST].begin();
            self.together()?;
            if self.waiting_good() == 0 {
                break;
            }
            self.pass(PAUSE_MS);
        }
        let took_ms = self.now_ms - began_ms;
        self.log
            .event(format!("the rest was sent after {took_ms} ms"));
        self.log.count(
            "milliseconds until the rest was sent",
            took_ms.unsigned_abs(),
        );
        self.log.count("rows refused for good", refused as u64);
        if self.waiting_good() > 0 {
            return Err("rows that are not refused wait".to_owned());
        }
        self.weather.loss_per_mille = 0;
        for _ in 0..4 {
            self.sync(FIRST)?;
        }
        self.judge_parked()?;
        let shown = self.devices[FIRST]
            .store
            .queue_entries(File::Org, true, 10_000);
        let shown = shown.map_err(|error| error.to_string())?;
        let reasons = shown
            .iter()
            .filter(|it| it.code.is_some() && it.reason.is_some());
        if reasons.count() != refused || shown.len() != refused {
            let seen = shown.len();
            return Err(format!("{refused} rows are refused, {seen} are shown"));
        }
        self.log
            .count("refused rows shown with their reason", refused as u64);
        self.refuses_for_good = false;
        Ok(())
    }

    /// Returns how many rows wait that the server does not refuse.
    fn waiting_good(&self) -> i64 {
        let sql = format!(
            "select count(*) from decisions d where d.title <> '{REFUSED_WORD}' and exists (
               select 1 from sync_queue q where q.table_name = 'org_decisions'
                 and (q.row_seq = d.seq or q.row_id = d.id))"
        );
        self.devices[FIRST].number(File::Org, &sql)
    }

    /// Each file of the device is pushed, so that it has a token of its own.
    fn used_everywhere(&mut self, number: usize) -> Result<(), String> {
        let stormy = self.weather;
        self.calm()?;
        let tokens = self.tokens(number);
        for _ in 0..TRIES_MAX {
            people::write_everywhere(&mut self.writer(number));
            self.sync(number)?;
            let now = self.tokens(number);
            let moved = tokens.iter().zip(&now).all(|(old, new)| old != new);
            if moved {
                self.weather = stormy;
                return Ok(());
            }
        }
        Err(format!("{number} could not push each of its files"))
    }

    fn tokens(&self, number: usize) -> Vec<Option<String>> {
        let device = self.devices[number].store.device();
        let token = |file: File| self.server.token(device, file);
        File::ALL.into_iter().map(token).collect()
    }

    /// Everything works for a while, and all devices come to rest.
    fn calm(&mut self) -> Result<(), String> {
        self.weather.loss_per_mille = 0;
        self.weather.slow_per_mille = 0;
        self.weather.kills = false;
        self.server.refused_word = None;
        for number in 0..self.devices.len() {
            self.make_whole(number)?;
        }
        for _ in 0..TRIES_MAX {
            self.sync_all(0..self.devices.len())?;
            if (0..self.devices.len()).all(|number| self.queued(number) == 0) {
                return Ok(());
            }
        }
        Err("the devices do not come to rest".to_owned())
    }

    fn sync_all(&mut self, numbers: std::ops::Range<usize>) -> Result<(), String> {
        for number in numbers {
            self.sync(number)?;
        }
        Ok(())
    }

    pub(super) fn queued(&self, number: usize) -> i64 {
        let sql = "select count(*) from sync_queue where state = 'queued'";
        let device = &self.devices[number];
        File::ALL.iter().map(|file| device.number(*file, sql)).sum()
    }

    /// Devices write and sync until the organisation's stream is longer than it was.
    fn go_past(&mut self, then: &Database, numbers: &[usize]) -> Result<(), String> {
        let scope = Scope::Org(self.server.organization());
        let old = then.head(scope, File::Org);
        for _ in 0..TRIES_MAX {
            for number in numbers {
                let mut writer = self.writer(*number);
                writer.crowd = true;
                people::write_everywhere(&mut writer);
                self.sync(*number)?;
            }
            if self.server.database.head(scope, File::Org) > old {
                return Ok(());
            }
        }
        Err(format!("{numbers:?} could not push past {old}"))
    }

    /// The first device's push is being worked on.
    fn leave_open(&mut self) -> Result<(), String> {
        people::write_everywhere(&mut self.writer(FIRST));
        self.weather.slow_per_mille = 1_000;
        self.devices[FIRST].begin();
        for _ in 0..TRIES_MAX * 10 {
            self.advance(FIRST)?;
            let run = self.devices[FIRST].run.as_ref();
            if run.is_some_and(|run| matches!(run.waits, Waits::PushOpen(..))) {
                self.weather.slow_per_mille = 0;
                return Ok(());
            }
        }
        Err("no push could be left open".to_owned())
    }

    /// What the scenario promises to have happened, and to have been noticed.
    fn prove(&mut self, scenario: Scenario) -> Result<(), String> {
        match scenario {
            Scenario::ServerSetBack(_) => {
                if self.server.database.past_epochs.is_empty() {
                    return Err("nobody noticed that the server was set back".to_owned());
                }
                self.log.count("set backs noticed", 1);
            }
            Scenario::FolderCopied | Scenario::FileRestored(_) => {
                let fences = self.log.counts().get("fences").copied().unwrap_or(0);
                if fences == 0 {
                    return Err("nobody was fenced".to_owned());
                }
                let mut identities: Vec<_> =
                    self.devices.iter().map(|it| it.store.device()).collect();
                identities.sort_unstable();
                identities.dedup();
                if identities.len() != self.devices.len() {
                    return Err("two folders are one device".to_owned());
                }
                self.log.count("copies noticed", 1);
            }
            _ => {}
        }
        Ok(())
    }
}
