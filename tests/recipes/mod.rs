//! The recipe suite: the same cases for every ground. Those in `faults` need a connection that
//! can break, and run on the grounds that have one.

#![allow(missing_docs, reason = "the name of a case says what holds")]

pub mod barriers;
pub mod cases;
pub mod configurations;
pub mod copies;
pub mod elections;
pub mod faults;
pub mod ground;
pub mod groups;
pub mod locks;
pub mod owners;
pub mod partitions;
pub mod permits;
pub mod ports;
pub mod proxy;
pub mod queues;
pub mod servers;

/// Makes a test of every case on a ground.
#[macro_export]
macro_rules! on_ground {
    ($start:expr, $module:path: $($case:ident)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                use $module as cases;
                cases::$case(&$start.await).await;
            }
        )*
    };
}

/// Every case that stands on any ground.
#[macro_export]
macro_rules! all_cases {
    ($start:expr) => {
        $crate::on_ground! { $start, $crate::recipes::cases:
            holders_follow_each_other_with_growing_tokens
            a_held_lock_is_not_had_by_trying_or_in_time
            a_cancelled_acquire_leaves_no_contender
            two_guards_of_one_session_exclude_each_other
            a_guarded_transaction_is_done_only_while_the_lock_is_held
            a_dropped_guard_frees_the_lock
            a_closed_client_frees_its_locks_at_once
            ten_workers_never_overlap
            an_emptied_parent_does_no_harm
            leaders_follow_each_other_and_are_observed
            a_leadership_is_fenced_by_its_term
            every_operation_answers_alike
            a_transaction_is_done_whole_or_not_at_all
            watches_tell_of_changes_and_are_removed_when_dropped
            a_namespace_is_all_that_its_client_sees
            acls_are_kept
        }
        $crate::on_ground! { $start, $crate::recipes::locks:
            readers_share_and_writers_exclude_in_the_order_in_which_they_came
            a_writer_becomes_a_reader_and_again_a_writer_and_lets_no_writer_in
            a_cancelled_read_or_write_leaves_nobody_in_line
            several_locks_are_held_together_or_not_at_all
            a_cancelled_multi_lock_leaves_nobody_in_any_line
        }
        $crate::on_ground! { $start, $crate::recipes::configurations:
            versions_are_followed_through_good_and_bad
            of_two_publishers_one_is_refused_and_the_history_brings_back
            a_publication_that_is_cancelled_is_done_or_not
            a_roll_out_goes_to_those_it_names_first
        }
        $crate::on_ground! { $start, $crate::recipes::owners:
            holders_and_waiters_are_told_with_what_they_say_of_themselves
            a_holder_is_asked_to_let_go_and_then_made_to
            an_owner_enters_again_and_its_last_exit_releases
            a_cancelled_enter_leaves_no_contender
            locks_in_the_layouts_of_others_wait_for_them_and_leave_no_contender
        }
        $crate::on_ground! { $start, $crate::recipes::elections:
            a_leadership_is_handed_over_in_growing_terms
            a_cancelled_campaign_leaves_no_candidate
            the_leaders_work_goes_on_until_it_is_done
        }
        $crate::on_ground! { $start, $crate::recipes::groups:
            members_are_seen_to_come_change_and_go
            a_cancelled_join_leaves_no_member
            a_standing_member_that_is_told_something_and_cancelled_does_it_all_the_same
            a_node_is_restored_until_it_is_removed
            instances_are_registered_followed_and_picked
        }
        $crate::on_ground! { $start, $crate::recipes::copies:
            a_cache_never_shows_half_a_transaction_and_is_the_tree_in_the_end
            a_feed_keeps_a_store_in_step_and_goes_on_from_its_checkpoint
        }
        $crate::on_ground! { $start, $crate::recipes::partitions:
            items_move_to_who_comes_and_back_under_growing_tokens
            a_partitioner_that_is_cancelled_leaves_nothing
        }
        $crate::on_ground! { $start, $crate::recipes::permits:
            permits_are_granted_up_to_a_limit_that_changes
            a_cancelled_acquire_leaves_no_permit_missing
        }
        $crate::on_ground! { $start, $crate::recipes::barriers:
            barriers_and_latches_hold_until_they_open
            cohorts_enter_and_leave_together
            a_cancelled_enter_leaves_no_member
            a_cancelled_enter_of_two_leaves_the_other_to_the_next
            a_cancelled_wait_leaves_nothing_and_the_next_one_passes
            counters_cells_and_ids_are_changed_exactly_once
        }
        $crate::on_ground! { $start, $crate::recipes::queues:
            items_are_finished_given_back_and_given_up
            a_delayed_item_and_one_of_an_id_come_once
            a_cancelled_take_keeps_no_item
            consumers_share_the_items
        }
    };
}

/// Every case that needs a connection to break.
#[macro_export]
macro_rules! all_faults {
    ($start:expr) => {
        $crate::on_ground! { $start, $crate::recipes::faults:
            a_short_cut_loses_no_lock_and_no_session
            a_long_cut_loses_the_lock_before_another_has_it
            a_lost_reply_makes_no_second_contender
            a_release_while_cut_off_is_confirmed_when_the_connection_is_back
            a_guard_dropped_while_cut_off_is_released
            a_change_during_a_cut_is_told_after_it
            a_killed_server_has_no_two_holders
            a_leader_that_is_cut_off_is_replaced
            workers_take_turns_through_cuts_and_a_restart
            a_pool_of_processes_replaces_its_killed_leader
        }
        $crate::on_ground! { $start, $crate::recipes::locks:
            a_reader_that_is_cut_off_knows_before_a_writer_holds
            changes_through_cuts_and_lost_replies_keep_the_place
            several_locks_through_cuts_and_lost_replies_are_held_once
        }
        $crate::on_ground! { $start, $crate::recipes::configurations:
            a_configuration_is_followed_over_cuts_kills_and_restarts
            a_publication_whose_replies_are_lost_is_done_once
        }
        $crate::on_ground! { $start, $crate::recipes::owners:
            requests_and_forced_releases_come_through_cuts_and_lost_replies
            all_that_is_held_outlives_restarts_and_kills
            those_who_wait_keep_their_place_through_a_kill
        }
        $crate::on_ground! { $start, $crate::recipes::elections:
            work_of_a_leader_that_is_cut_off_is_dropped_before_another_leads
            a_hand_over_through_cuts_and_lost_replies_leaves_one_leader
        }
        $crate::on_ground! { $start, $crate::recipes::groups:
            a_member_that_is_cut_off_is_gone_and_knows
            a_standing_member_and_its_watcher_outlive_cuts_kills_and_restarts
        }
        $crate::on_ground! { $start, $crate::recipes::copies:
            copies_find_what_happened_through_cuts_kills_and_restarts
            a_mirror_in_sqlite_is_equal_after_crashes_of_either_side
        }
        $crate::on_ground! { $start, $crate::recipes::partitions:
            a_member_that_is_cut_off_loses_its_items_before_others_have_them_in_time
        }
        $crate::on_ground! { $start, $crate::recipes::permits:
            permits_are_never_too_many_through_cuts_and_lost_replies
        }
        $crate::on_ground! { $start, $crate::recipes::barriers:
            a_counter_adds_exactly_once_through_cuts_and_lost_replies
            cohorts_enter_whole_through_cuts_and_lost_replies
        }
        $crate::on_ground! { $start, $crate::recipes::queues:
            an_item_of_a_consumer_that_is_cut_off_goes_to_another
            no_item_is_lost_through_cuts_lost_replies_and_a_kill
            a_queue_is_worked_off_through_kills_of_consumers_and_the_server
        }
    };
}
