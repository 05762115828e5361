//! Comparing both tables.

use super::fixture::{Fixture, Write};
use super::rig::{Rig, keys};
use crate::value::{Bounds, Key};

const ROWS: [(&str, &str); 4] = [("a", "1"), ("b", "2"), ("c", "3"), ("d", "4")];

pub(super) async fn equal_tables_have_no_difference_and_every_row_is_counted(fixture: &dyn Fixture) {
    let rig = Rig::copied(fixture, &ROWS).await;
    let compared = rig.rebuild.compare(&Bounds::all()).await.expect("the tables are compared");
    assert_eq!((compared.rows, compared.differing.len()), (4, 0));
}

pub(super) async fn changed_missing_and_extra_rows_are_found(fixture: &dyn Fixture) {
    let rig = Rig::copied(fixture, &ROWS).await;
    rig.damage(&[Write::Update("a", "99"), Write::Delete("b"), Write::Insert("x", "9")]).await;
    let compared = rig.rebuild.compare(&Bounds::all()).await.expect("the tables are compared");
    assert_eq!(keys(&compared.differing).len(), 3, "changed, missing, extra: {:?}", compared.differing);
    assert!(compared.rows >= 4, "every row is looked at: {}", compared.rows);
    rig.rebuild.apply(&compared.differing).await.expect("what differs can be applied");
    let again = rig.rebuild.compare(&Bounds::all()).await.expect("the tables are compared");
    assert_eq!(again.differing, [], "and is equal then");
}

pub(super) async fn compare_keys_looks_at_these_keys_only(fixture: &dyn Fixture) {
    let rig = Rig::copied(fixture, &ROWS).await;
    rig.damage(&[Write::Update("a", "99"), Write::Delete("b"), Write::Insert("x", "9")]).await;
    let all = rig.rebuild.compare(&Bounds::all()).await.expect("the tables are compared");
    for one in &all.differing {
        let compared =
            rig.rebuild.compare_keys(std::slice::from_ref(&one.key)).await.expect("it is compared");
        assert_eq!(keys(&compared.differing), [one.key.0.clone()].into(), "only what was asked for");
        assert_eq!(compared.differing.iter().map(|change| change.lane).collect::<Vec<_>>(), [one.lane]);
    }
    let repaired: Vec<Key> = all.differing.iter().map(|change| change.key.clone()).collect();
    rig.rebuild.apply(&all.differing).await.expect("what differs can be applied");
    let compared = rig.rebuild.compare_keys(&repaired).await.expect("they are compared");
    assert_eq!(compared.differing, [], "absent on both sides is equal, too");
}
