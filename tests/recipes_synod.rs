//! The recipe suite on `synod serve`, in a process of its own.

use synod_tests::recipes::ground::Ground;

synod_tests::all_cases!(Ground::synod());
synod_tests::all_faults!(Ground::synod());
