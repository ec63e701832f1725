// Landmarks that TypeDoc's theme lacks, for those who go through a page by them.
document.querySelector('.col-content')?.setAttribute('role', 'main');
document.querySelector('.col-sidebar')?.setAttribute('role', 'complementary');
// What scrolls can be scrolled by keys.
for (const wide of document.querySelectorAll('.tsd-typography :is(table, pre)')) wide.tabIndex = 0;
