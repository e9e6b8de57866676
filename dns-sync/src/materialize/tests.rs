//! What happens to knotd's files where there is no replica to write them from; with one, see the agent's tests.

use super::*;

#[test]
fn files_that_are_left_alone_are_found_by_a_knotd_with_more_catalogs() {
    let dir = tempfile::tempdir().unwrap();
    let (data, replica) = (dir.path().join("data"), dir.path().join("none"));
    let mut knot = KnotConfig::new(dir.path().join("knot"), Vec::new());
    knot.install().unwrap();
    assert!(matches!(materialize(&data, &replica, &knot), Err(MaterializeError::NoReplica(_))));

    // As the first agents left it: one file, beside the folder.
    let zones: BTreeSet<Name> =
        (0..100).map(|number| Name::parse(&format!("z{number}.test.")).unwrap()).collect();
    knot.catalog_count = 1;
    write_catalogs(&knot, &zones).unwrap();
    fs::rename(knot.catalog_dir().join(catalog::file_name(0)), knot.old_catalog_file()).unwrap();
    for count in [64, 5, 64] {
        knot.catalog_count = count;
        assert!(matches!(materialize(&data, &replica, &knot), Ok(Materialized::LeftAlone { .. })));
        assert_eq!(catalog_files(&knot).len(), usize::from(count));
        assert_eq!(members_in_files(&knot), zones);
        let written =
            catalog_files(&knot).iter().map(|file| fs::metadata(file).unwrap().modified().unwrap()).max();
        assert!(matches!(materialize(&data, &replica, &knot), Ok(Materialized::LeftAlone { .. })));
        let again =
            catalog_files(&knot).iter().map(|file| fs::metadata(file).unwrap().modified().unwrap()).max();
        assert_eq!(written, again, "files of the right number are not touched");
    }
    assert!(!knot.old_catalog_file().exists());
}

#[test]
fn files_for_the_module_are_not_left_to_a_knotd_without_it() {
    let dir = tempfile::tempdir().unwrap();
    let (data, replica) = (dir.path().join("data"), dir.path().join("replica"));
    let mut knot = KnotConfig::new(dir.path().join("knot"), Vec::new());
    knot.install().unwrap();
    knot.module = Some(dir.path().join("herald.so"));
    drop(crate::replica::Replica::open(&replica).unwrap());
    assert!(matches!(materialize(&data, &replica, &knot), Ok(Materialized::Written(_))));
    assert!(knot.module_snapshot().exists());

    let aside = dir.path().join("aside");
    fs::rename(&replica, &aside).unwrap();
    assert!(matches!(materialize(&data, &replica, &knot), Ok(Materialized::LeftAlone { .. })));
    knot.module = None;
    let refused = materialize(&data, &replica, &knot).unwrap_err();
    assert!(matches!(refused, MaterializeError::ForModule(_)), "{refused}");
    assert!(refused.to_string().contains("`module` in agent.toml"), "{refused}");

    // Once they are written without it, they may be left alone.
    fs::rename(&aside, &replica).unwrap();
    assert!(matches!(materialize(&data, &replica, &knot), Ok(Materialized::Written(_))));
    fs::rename(&replica, &aside).unwrap();
    assert!(matches!(materialize(&data, &replica, &knot), Ok(Materialized::LeftAlone { .. })));
}
