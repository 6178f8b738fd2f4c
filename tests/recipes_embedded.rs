//! The recipe suite on the embedded ground.

use synod_tests::recipes::ground::Ground;

synod_tests::all_cases!(Ground::embedded());
