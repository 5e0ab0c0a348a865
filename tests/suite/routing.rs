//! Moving over, as people do it: the page that the owners of an old system read, and the lever of a deployed stack.

mod changes;
mod old_system_page;
