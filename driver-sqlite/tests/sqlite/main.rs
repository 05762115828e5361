//! The driver against real files, with an application on connections of its own.

mod application;
mod capture;
mod concurrent;
mod conformance;
mod draft;
mod gap;
mod interrupted;
mod native;
mod objects;
mod rebuild;
mod reverse;
mod rig;
