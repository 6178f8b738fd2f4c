//! The recipe suite on Apache ZooKeeper; called by `interop/run`, since it needs Java.

use synod_tests::recipes::ground::Ground;

synod_tests::all_cases!(Ground::apache());
synod_tests::all_faults!(Ground::apache());
