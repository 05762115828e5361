//! Commands from elsewhere.

use super::fixture::Fixture;
use crate::control::Control;
use crate::driver::CommandState;
use crate::ident::RunId;

pub(super) async fn commands_are_seen_until_they_are_answered(fixture: &dyn Fixture) {
    let (here, there) = (fixture.session().await, fixture.session().await);
    let (run, other) = (RunId::random(), RunId::random());
    here.state().ensure().await.expect("the records can be made");
    let limits = [("lag_max_ms".to_owned(), "5".to_owned())].into();
    let throttle = Control::Throttle { set: limits };
    let first = there.state().post(&run, &Control::Pause).await.expect("it is left");
    let second = there.state().post(&run, &throttle).await.expect("it is left");
    there.state().post(&other, &Control::Abort).await.expect("it is left");
    let pending = here.state().pending(&run).await.expect("commands are read");
    let seen: Vec<_> = pending.iter().map(|command| (command.id, command.control.clone())).collect();
    assert_eq!(seen, [(first, Control::Pause), (second, throttle)], "of this run, oldest first");
    assert_eq!(there.state().command(first).await.expect("it is read"), CommandState::Waiting);
    here.state().acknowledge(first, "paused").await.expect("it is answered");
    let answer = there.state().command(first).await.expect("it is read");
    assert_eq!(answer, CommandState::Answered("paused".to_owned()));
    let rest = here.state().pending(&run).await.expect("commands are read");
    assert_eq!(
        rest.iter().map(|command| command.id).collect::<Vec<_>>(),
        [second],
        "each is seen until then"
    );
}
