//! A sample of `./dev soak kill`.

use testbed::soak;

#[test]
fn nothing_acknowledged_is_lost_by_kill_9() {
    println!("{}", soak::kill::run(1, soak::fresh_seed()));
}
