//! Moving over, as people do it: the page that the owners of an old system read, and the lever of a deployed stack.

mod lever;
mod old_system_page;
