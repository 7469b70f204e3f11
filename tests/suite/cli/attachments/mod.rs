//! `pgio attachments`: the table is created once, however many try, and looked after while it is in use.

mod init;
