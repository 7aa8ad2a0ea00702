//! The folder that a command is started in: its checkout, its names, and whether an instance belongs to it. Shared by
//! `wrap` and `name`.
use crate::checkout::{self, AppName, Checkout};
use crate::hint::Failure;
use crate::naming::{self, Facts, Names};
use crate::settings::Settings;
use agentfs_wire::companion::Companion;
use agentfs_wire::env;
use std::path::{Path, PathBuf};

/// A folder, as far as names are concerned.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// The working directory. Empty if it was removed: then no instance belongs to it.
    pub(crate) directory: PathBuf,
    /// The checkout around it.
    pub(crate) checkout: Option<Checkout>,
    /// What names the app.
    pub(crate) app: AppName,
}

// === impl Place ===

impl Place {
    /// The working directory.
    pub(crate) fn current() -> Self {
        // If the folder was removed, the program still runs; the folder just gives no names.
        let directory = std::env::current_dir().unwrap_or_default();
        let checkout = checkout::find(&directory);
        let app = if directory.as_os_str().is_empty() {
            AppName::default()
        } else {
            let app = checkout::app_name(&directory, checkout.as_ref());
            AppName { problem: checkout.as_ref().and_then(lost).or(app.problem), ..app }
        };
        Self { directory, checkout, app }
    }

    /// The folder that its instances belong to.
    pub(crate) fn folder(&self) -> &Path {
        let checkout = self.checkout.as_ref().map(|checkout| checkout.root.as_path());
        self.app.root.as_deref().or(checkout).unwrap_or(&self.directory)
    }

    /// Git's folder of the linked worktree.
    pub(crate) fn worktree(&self) -> Option<&Path> {
        let link = self.checkout.as_ref().and_then(|checkout| checkout.link.as_ref());
        link.map(|link| link.folder.as_path())
    }

    /// Whether an instance belongs to this folder. A worktree that was moved is still the same; one that was made after the
    /// instance is another one, even in the same folder.
    pub(crate) fn owns(&self, companion: &Companion) -> bool {
        (self.is_folder_of(companion) || self.is_worktree_of(companion)) && !self.is_newer_than(companion)
    }

    /// Whether an instance belongs to a worktree that was in this folder before, and was removed.
    pub(crate) fn replaced(&self, companion: &Companion) -> bool {
        self.is_folder_of(companion) && self.is_newer_than(companion)
    }

    fn is_folder_of(&self, companion: &Companion) -> bool {
        !self.directory.as_os_str().is_empty() && companion.folder() == self.folder()
    }

    /// Whether an instance belongs to this worktree, wherever that was when the instance started.
    pub(crate) fn is_worktree_of(&self, companion: &Companion) -> bool {
        self.worktree().is_some() && companion.worktree.as_deref() == self.worktree()
    }

    fn is_newer_than(&self, companion: &Companion) -> bool {
        let link = self.checkout.as_ref().and_then(|checkout| checkout.link.as_ref());
        link.and_then(|link| link.made_ms).is_some_and(|made_ms| made_ms > companion.started_ms)
    }

    /// The branch or the folder that names the instance of a linked worktree.
    fn instance_source(&self) -> Option<String> {
        let checkout = self.checkout.as_ref().filter(|checkout| checkout.link.is_some())?;
        let folder = || checkout.root.file_name().map(|name| name.to_string_lossy().into_owned());
        checkout.branch.clone().or_else(folder)
    }

    /// Its names. `program` is the file name of the program.
    ///
    /// # Errors
    /// A given name is not one.
    pub(crate) fn names(
        &self,
        app: Option<&str>,
        instance: Option<&str>,
        program: &str,
    ) -> Result<Names, Failure> {
        naming::resolve(&Facts {
            app: app.map(str::to_owned),
            instance: instance.map(str::to_owned),
            folder: self.app.raw.clone(),
            worktree: self.instance_source(),
            program: program.to_owned(),
        })
    }

    /// Where the app's name comes from, for people.
    pub(crate) fn app_source(&self) -> String {
        match &self.app.from {
            Some(from) if from.is_dir() => format!("the folder {}", from.display()),
            Some(from) => from.display().to_string(),
            None => "the program".to_owned(),
        }
    }

    /// Where the instance's usual name comes from, for people.
    pub(crate) fn stem_source(&self) -> String {
        match &self.checkout {
            Some(checkout) => match (&checkout.link, &checkout.branch) {
                (None, _) => format!("the main checkout {}", checkout.root.display()),
                (Some(_), Some(branch)) => {
                    format!("branch {branch} of the worktree {}", checkout.root.display())
                }
                (Some(_), None) => format!("the folder of the detached worktree {}", checkout.root.display()),
            },
            None if self.directory.as_os_str().is_empty() => "the current folder was removed".to_owned(),
            None => format!("{} is not in a git checkout", self.directory.display()),
        }
    }
}

/// What is wrong with a linked worktree whose git folder cannot be read.
fn lost(checkout: &Checkout) -> Option<String> {
    let git = &checkout.link.as_ref()?.folder;
    (!git.join("HEAD").is_file()).then(|| {
        let (root, git) = (checkout.root.display(), git.display());
        format!(
            "cannot read {git}, so the branch of the worktree {root} is unknown and its folder names the instance; if \
             the repository was moved, run `git worktree repair` there"
        )
    })
}

/// The instance that this process belongs to, by app and name, if it is one of this home.
pub(crate) fn own(settings: &Settings) -> Option<(String, String)> {
    let text = |name| settings.variable(name).map(|value| value.to_string_lossy().into_owned());
    let here = settings.variable(env::RUN).is_some_and(|run| Path::new(&run) == settings.paths.run);
    text(env::APP).zip(text(env::INSTANCE)).filter(|_| here)
}

/// The instance of `app` that this process belongs to, if it is one of this home.
pub(crate) fn inside(settings: &Settings, app: &str) -> Option<String> {
    own(settings).filter(|(own, _)| own == app).map(|(_, instance)| instance)
}
